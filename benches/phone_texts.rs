//! Reads phone texts, one a line, for the comparison in `phone_texts.py`; see `README.md` beside this file.
//!
//! A line is `written<TAB>country<TAB>text`: `plus` or `calling_code` for a vendor's text and `caller` for a
//! caller's, an alpha-2 code or nothing, and the text as a JSON string. The answer to each is its number, with
//! `;ext=` and the extension if it has one, or `-`.

use std::error::Error;
use std::io::{BufRead, Write, stdin, stdout};

use phone_gateway::batch::{Country, Phone, Written, clean_number};

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::BufWriter::new(stdout().lock());
    for line in stdin().lock().lines() {
        let line = line?;
        let (written, rest) = line.split_once('\t').ok_or("a line without its country")?;
        let (country, text) = rest.split_once('\t').ok_or("a line without its text")?;
        let text: String = serde_json::from_str(text)?;
        let country = Country::from_code(country);
        let read = |written| {
            let phone = Phone::read(&text, written, country);
            let extension =
                phone.extension.map(|extension| format!(";ext={}", extension.0)).unwrap_or_default();
            phone.e164.map(|number| format!("{number}{extension}"))
        };
        let answer = match written {
            "plus" => read(Written::WithPlus),
            "calling_code" => read(Written::WithCallingCode),
            "caller" => clean_number(&text, country).ok(),
            _ => return Err("unknown kind of text".into()),
        };
        writeln!(out, "{}", answer.as_deref().unwrap_or("-"))?;
    }
    Ok(())
}
