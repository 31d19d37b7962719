//! From the sources to the settings, with every fault on the way.

use std::io;
use std::path::Path;

use config::builder::DefaultState;
use config::{Config, ConfigBuilder, ConfigError, Environment, File, FileFormat, Value, ValueKind};
use serde_path_to_error::Segment;

use super::text::MUST_BE;
use super::{Inspection, SECTION, SettingsError};

/// Where settings come from; the last one wins.
pub(super) struct Sources<'a> {
    pub(super) defaults: &'a [&'a str],
    pub(super) file: Option<&'a Path>,
    pub(super) environment: Environment,
    /// What `--listen` says.
    pub(super) listen: Option<&'a str>,
}

impl Sources<'_> {
    /// The variables of this process, or of a list in their place.
    pub(super) fn environment() -> Environment {
        Environment::with_prefix("PHONE_GATEWAY").prefix_separator("__").separator("__").ignore_empty(true)
    }

    /// Reads all sources. What is at fault has its default in the settings.
    pub(super) fn read(self) -> Inspection {
        let toml = |text: &&str| File::from_str(text, FileFormat::Toml);
        let defaults = Config::builder().add_source(self.defaults.iter().map(toml).collect::<Vec<_>>());
        let trees = defaults.clone().build().map_err(|error| SettingsError::of("settings", problem(&error)));
        match trees.and_then(|tree| Ok((tree.cache, self.tree(defaults)?))) {
            Ok((defaults, tree)) => deserialize(tree, &defaults),
            Err(faults) => Inspection { settings: None, faults },
        }
    }

    fn tree(self, mut builder: ConfigBuilder<DefaultState>) -> Result<Value, SettingsError> {
        if let Some(file) = self.file {
            let shown = file.display().to_string();
            let content = read_text(file).map_err(|problem| SettingsError::of(&shown, problem))?;
            let source = File::from_str(&content, FileFormat::Toml);
            // Parsed apart from the rest, so that an error of syntax can name the file.
            Config::builder()
                .add_source(source.clone())
                .build()
                .map_err(|error| SettingsError::of(&shown, syntax_problem(&error)))?;
            builder = builder.add_source(source);
        }
        let at_fault = |error: ConfigError| SettingsError::of("settings", problem(&error));
        let builder = builder.add_source(self.environment);
        let builder = builder.set_override_option("server.listen", self.listen).map_err(at_fault)?;
        Ok(builder.build().map_err(at_fault)?.cache)
    }
}

/// Deserializing ends at the first fault: each is replaced by its default, until there is none.
fn deserialize(mut tree: Value, defaults: &Value) -> Inspection {
    let mut faults = SettingsError::default();
    loop {
        let error = match serde_path_to_error::deserialize(tree.clone()) {
            Ok(settings) => return Inspection { settings: Some(settings), faults },
            Err(error) => error,
        };
        let path = error.path().to_string();
        let place = if path == "." { "settings".to_owned() } else { path };
        let seen = faults.concerns(&place);
        let keys: Vec<_> = error
            .path()
            .iter()
            .map_while(|segment| match segment {
                Segment::Map { key } => Some(key.as_str()),
                _ => None,
            })
            .collect();
        let mended = mend(&mut tree, defaults, &keys);
        faults.add(place, problem(error.inner()));
        if seen || !mended {
            return Inspection { settings: None, faults };
        }
    }
}

/// Puts the default in the place of a value, or removes it if there is none.
fn mend(tree: &mut Value, defaults: &Value, keys: &[&str]) -> bool {
    let Some((last, sections)) = keys.split_last() else { return false };
    let (mut section, mut default) = (tree, Some(defaults));
    for key in sections {
        let ValueKind::Table(table) = &mut section.kind else { return false };
        let Some(below) = table.get_mut(*key) else { return false };
        (section, default) = (below, default.and_then(|value| entry(value, key)));
    }
    let ValueKind::Table(table) = &mut section.kind else { return false };
    match default.and_then(|value| entry(value, last)) {
        Some(default) => table.insert((*last).to_owned(), default.clone()),
        None => table.remove(*last),
    };
    true
}

fn entry<'v>(section: &'v Value, key: &str) -> Option<&'v Value> {
    match &section.kind {
        ValueKind::Table(table) => table.get(key),
        _ => None,
    }
}

/// The text of a file that the settings name.
pub(super) fn read_text(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; correct the path, or create the file".to_owned(),
        io::ErrorKind::InvalidData => "the file is not UTF-8; save it as UTF-8".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "the file cannot be read: permission denied; let the gateway's user read it".to_owned()
        }
        kind => format!("the file cannot be read: {kind}"),
    })
}

/// What is wrong, without the value: only words that are known to hold none are passed on.
fn problem(error: &ConfigError) -> String {
    match error {
        ConfigError::Type { expected, .. } => format!("must be {expected}"),
        ConfigError::At { error, .. } => problem(error),
        ConfigError::NotFound(key) => format!("`{key}` is missing"),
        ConfigError::Message(message) if message.starts_with(MUST_BE) => message.clone(),
        ConfigError::Message(message) if message.starts_with("unknown field") => unknown_key(message),
        // serde quotes the value before the last comma: `invalid type: string "…", expected a map`.
        ConfigError::Message(message)
            if [SECTION, "a map"].iter().any(|expected| message.ends_with(expected)) =>
        {
            format!("must be {SECTION}")
        }
        _ => "cannot be understood".into(),
    }
}

/// serde says: unknown field `x`, expected one of `a`, `b`.
fn unknown_key(message: &str) -> String {
    let allowed = message.rsplit_once("expected ").map_or("", |(_, allowed)| allowed);
    let allowed = allowed.trim_start_matches("one of ").replace(" or ", ", ").replace('`', "");
    format!("unknown key; allowed: {allowed}")
}

/// Where the syntax is wrong: the first line of TOML's message; those after it quote the file.
fn syntax_problem(error: &ConfigError) -> String {
    match error {
        ConfigError::FileParse { cause, .. } => {
            cause.to_string().lines().next().unwrap_or("not valid TOML").to_owned()
        }
        error => problem(error),
    }
}
