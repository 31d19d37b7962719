//! Phone numbers, countries and operators that look real, derived from the input alone: the same input
//! gives the same data in every process.

/// A country with the numbers and operators that are simulated for it.
#[derive(Debug)]
pub struct Country {
    /// ISO 3166-1 alpha-2.
    pub alpha2: &'static str,
    /// ISO 3166-1 alpha-3.
    pub alpha3: &'static str,
    /// The English name.
    pub name: &'static str,
    /// The calling code without a plus sign.
    pub calling_code: &'static str,
    /// Its mobile operators.
    pub operators: &'static [Operator],
    /// National mobile numbers, `#` for any digit.
    mobiles: &'static [&'static str],
}

/// A mobile operator.
#[derive(Debug)]
pub struct Operator {
    /// The name that it is known by.
    pub name: &'static str,
    /// Its mobile country code and mobile network code (ITU-T E.212).
    pub mcc_mnc: &'static str,
    /// The domain of its e-mail to SMS gateway.
    pub sms_domain: Option<&'static str>,
    /// The domain of its e-mail to MMS gateway.
    pub mms_domain: Option<&'static str>,
}

/// A mobile number.
#[derive(Clone, Debug)]
pub struct Mobile {
    /// With plus sign and calling code.
    pub e164: String,
    /// Where it belongs.
    pub country: &'static Country,
}

/// A number that depends on nothing but the text: FNV-1a (64 bits), mixed so that all bits can be used.
#[must_use]
pub fn stable_hash(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(fnv)
}

/// A choice below `count` that depends on the hash and on what is chosen.
#[must_use]
pub fn pick(hash: u64, what: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(mixed(hash ^ what.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % count).unwrap_or_default()
}

/// The mobile number that belongs to a hash.
#[must_use]
pub fn mobile(hash: u64) -> Mobile {
    let country = &COUNTRIES[pick(hash, 1, COUNTRIES.len())];
    let pattern = country.mobiles[pick(hash, 2, country.mobiles.len())];
    let mut e164 = format!("+{}", country.calling_code);
    for (position, sign) in (10_u64..).zip(pattern.chars()) {
        match sign {
            '#' => e164.push(char::from(b"0123456789"[pick(hash, position, 10)])),
            digit => e164.push(digit),
        }
    }
    Mobile { e164, country }
}

/// The simulated country with this alpha-2 code.
#[must_use]
pub fn country(alpha2: &str) -> Option<&'static Country> {
    COUNTRIES.iter().find(|country| country.alpha2 == alpha2)
}

/// The last step of splitmix64.
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

const fn operator(name: &'static str, mcc_mnc: &'static str) -> Operator {
    Operator { name, mcc_mnc, sms_domain: None, mms_domain: None }
}

const fn with_mail(mut operator: Operator, sms: &'static str, mms: Option<&'static str>) -> Operator {
    operator.sms_domain = Some(sms);
    operator.mms_domain = mms;
    operator
}

/// The numbers stay in blocks that are reserved for films (AU), known from films (the 555 exchange) or
/// written in examples (12345…): they should ring nobody.
pub static COUNTRIES: [Country; 10] = [
    Country {
        alpha2: "US",
        alpha3: "USA",
        name: "United States of America",
        calling_code: "1",
        operators: &[
            with_mail(operator("Verizon", "311480"), "vtext.com", Some("vzwpix.com")),
            with_mail(operator("AT&T", "310410"), "txt.att.net", Some("mms.att.net")),
            with_mail(operator("T-Mobile", "310260"), "tmomail.net", Some("tmomail.net")),
        ],
        mobiles: &["212555####", "415555####", "312555####", "646555####", "570555####"],
    },
    Country {
        alpha2: "CA",
        alpha3: "CAN",
        name: "Canada",
        calling_code: "1",
        operators: &[
            with_mail(operator("Rogers Wireless", "302720"), "sms.rogers.com", None),
            with_mail(operator("Bell Mobility", "302610"), "txt.bell.ca", None),
            with_mail(operator("TELUS Mobility", "302220"), "msg.telus.com", None),
        ],
        mobiles: &["416555####", "604555####", "514555####"],
    },
    Country {
        alpha2: "GB",
        alpha3: "GBR",
        name: "United Kingdom",
        calling_code: "44",
        operators: &[
            operator("EE", "23430"),
            operator("O2 UK", "23410"),
            operator("Vodafone UK", "23415"),
            operator("Three UK", "23420"),
        ],
        mobiles: &["740012####"],
    },
    Country {
        alpha2: "FR",
        alpha3: "FRA",
        name: "France",
        calling_code: "33",
        operators: &[
            operator("Orange France", "20801"),
            operator("SFR", "20810"),
            operator("Free Mobile", "20815"),
            operator("Bouygues Telecom", "20820"),
        ],
        mobiles: &["61234####"],
    },
    Country {
        alpha2: "DE",
        alpha3: "DEU",
        name: "Germany",
        calling_code: "49",
        operators: &[
            operator("Telekom Deutschland", "26201"),
            operator("Vodafone Germany", "26202"),
            operator("Telefonica Germany", "26203"),
        ],
        mobiles: &["1512345####"],
    },
    Country {
        alpha2: "ES",
        alpha3: "ESP",
        name: "Spain",
        calling_code: "34",
        operators: &[
            operator("Vodafone Spain", "21401"),
            operator("Orange Spain", "21403"),
            operator("Movistar", "21407"),
        ],
        mobiles: &["61234####"],
    },
    Country {
        alpha2: "IT",
        alpha3: "ITA",
        name: "Italy",
        calling_code: "39",
        operators: &[
            operator("TIM", "22201"),
            operator("Vodafone Italy", "22210"),
            operator("Iliad Italia", "22250"),
            operator("WindTre", "22288"),
        ],
        mobiles: &["312345####"],
    },
    Country {
        alpha2: "NL",
        alpha3: "NLD",
        name: "Netherlands",
        calling_code: "31",
        operators: &[operator("Vodafone NL", "20404"), operator("KPN", "20408"), operator("Odido", "20416")],
        mobiles: &["61234####"],
    },
    Country {
        alpha2: "AU",
        alpha3: "AUS",
        name: "Australia",
        calling_code: "61",
        operators: &[
            operator("Telstra", "50501"),
            operator("Optus", "50502"),
            operator("Vodafone AU", "50503"),
        ],
        mobiles: &["49157####"],
    },
    Country {
        alpha2: "IN",
        alpha3: "IND",
        name: "India",
        calling_code: "91",
        operators: &[operator("Airtel", "40410"), operator("Vi", "40420"), operator("Jio", "405840")],
        mobiles: &["812345####"],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rlibphonenumber::PHONE_NUMBER_UTIL;

    use super::{COUNTRIES, mobile, stable_hash};

    #[test]
    fn every_number_is_valid_in_its_country() {
        let mut countries = BTreeSet::new();
        for input in 0..3_000 {
            let mobile = mobile(stable_hash(&format!("person {input}")));
            let number = PHONE_NUMBER_UTIL.parse(&mobile.e164, None).expect(&mobile.e164);
            assert!(number.is_valid(), "{}", mobile.e164);
            let region = number.get_region_code().map(|region| region.to_string());
            assert_eq!(region.as_deref(), Some(mobile.country.alpha2), "{}", mobile.e164);
            countries.insert(mobile.country.alpha2);
        }
        assert_eq!(countries.len(), COUNTRIES.len());
    }

    #[test]
    fn the_hash_is_the_same_in_every_process() {
        assert_eq!(stable_hash("michael scott"), 6_564_966_191_516_805_538);
    }
}
