//! Secrets: from the settings, a variable or a file, without what editors and shells put around them.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::read::read_text;
use super::text::{FromText, in_quotes, trimmed};
use super::{Settings, SettingsError, StoreUrl};

impl Settings {
    /// Reads every secret that stands in a file, and cleans all of them.
    pub(super) fn read_secrets(&mut self, faults: &mut SettingsError) {
        for (slug, provider) in &mut self.providers {
            let place = format!("providers.{slug}.api_key");
            provider.api_key =
                secret(&place, provider.api_key.take(), provider.api_key_file.as_deref(), faults);
            let place = format!("providers.{slug}.webhook_token");
            let file = provider.webhook_token_file.as_deref();
            provider.webhook_token = secret(&place, provider.webhook_token.take(), file, faults);
        }
    }

    /// Reads the store's URL from its file, if it has one.
    pub(super) fn read_store_url(&mut self, faults: &mut SettingsError) {
        let Some(file) = &self.store.url_file else { return };
        let url = read_text(file).and_then(|text| {
            let url = clean(&text)?;
            StoreUrl::from_text(url.expose_secret())
                .ok_or_else(|| format!("the file must hold {}", StoreUrl::EXPECTED))
        });
        match url {
            Ok(url) => self.store.url = url,
            Err(problem) => faults.add("store.url_file", problem),
        }
    }
}

/// The secret of the key `place`, or of the file that `place` with `_file` names.
fn secret(
    place: &str,
    value: Option<SecretString>,
    file: Option<&Path>,
    faults: &mut SettingsError,
) -> Option<SecretString> {
    let (place, read) = match (value, file) {
        (None, None) => return None,
        (Some(value), None) => (place.to_owned(), clean(value.expose_secret())),
        (None, Some(file)) => (format!("{place}_file"), read_text(file).and_then(|text| clean(&text))),
        (Some(_), Some(_)) => {
            let key = place.rsplit('.').next().unwrap_or(place);
            (format!("{place}_file"), Err(format!("`{key}` is set as well; remove one of them")))
        }
    };
    read.map_err(|problem| faults.add(place, problem)).ok()
}

/// A secret without a byte order mark and white space around it.
fn clean(text: &str) -> Result<SecretString, String> {
    let text = trimmed(text);
    if text.is_empty() {
        return Err("is empty; set the secret, or leave the key out".to_owned());
    }
    if in_quotes(text) {
        return Err("has quotes around it, which would be sent as part of it; remove them".to_owned());
    }
    Ok(text.into())
}
