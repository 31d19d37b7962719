//! What normalising costs: an Experian batch in, the common schema's JSON out, against a service that only
//! decodes and encodes the same documents with typed structs.
//!
//! Both sides get the same bytes and take turns within each round, so that a busy machine slows both. Each
//! figure is the median of the rounds. See `README.md` beside this file.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use phone_gateway::batch::BatchId;
use phone_gateway::http::Reply;
use phone_gateway::providers::{VENDORS, Vendor};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

type Failure = Box<dyn Error>;
/// One of the two things compared; it answers with the length of what it wrote.
type Side = fn(&Documents) -> Result<usize, Failure>;

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const ROUNDS: usize = 41;
/// Rows that each side handles in one turn: enough for the timer, little enough for many turns.
const ROWS_PER_TURN: usize = 10_000;
/// The most that the gateway may cost, in terms of the typed decode and encode.
const GOAL: f64 = 1.5;

const ID: &str = "e1c3f9d2-6f0b-4f5e-9a0f-2d7b1c8e4a63";

fn main() -> Result<(), Failure> {
    // cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["only", "gateway", size, times] => repeat(size, times, Documents::normalise),
        ["only", "typed", size, times] => repeat(size, times, Documents::decode_and_encode),
        _ => Err("usage: normalise [only gateway|typed SIZE TIMES]".into()),
    }
}

/// One side alone, for a profiler or for counting instructions: what one batch costs is the difference between
/// two runs, which frees it from the start of the process and from the making of the documents.
fn repeat(phones: &str, times: &str, side: Side) -> Result<(), Failure> {
    let documents = Documents::new(phones.parse()?)?;
    for _ in 0..times.parse()? {
        black_box(side(black_box(&documents))?);
    }
    Ok(())
}

fn compare() -> Result<(), Failure> {
    println!(
        "Experian batches, ns per row (median of {ROUNDS} rounds, 10 % and 90 % of the ratio in brackets)\n"
    );
    println!("{:>8} {:>9} {:>9} {:>7}", "phones", "gateway", "typed", "ratio");
    let mut ratios = Vec::new();
    let mut costs = Vec::new();
    for size in SIZES {
        let documents = Documents::new(size)?;
        let (mut gateway, mut typed, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let ours = documents.ns_per_row(Documents::normalise)?;
            let theirs = documents.ns_per_row(Documents::decode_and_encode)?;
            // The first round warms the caches and the allocator up.
            if round > 0 {
                gateway.push(ours);
                typed.push(theirs);
                ratio.push(ours / theirs);
            }
        }
        let (low, middle, high) =
            (quantile(&mut ratio, 0.1), quantile(&mut ratio, 0.5), quantile(&mut ratio, 0.9));
        let cost = quantile(&mut gateway, 0.5);
        println!(
            "{size:>8} {cost:>9.0} {:>9.0} {middle:>6.2}x  [{low:.2}-{high:.2}]",
            quantile(&mut typed, 0.5)
        );
        ratios.push(middle);
        costs.push(cost);
    }
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let spread =
        costs.iter().copied().fold(0.0, f64::max) / costs.iter().copied().fold(f64::INFINITY, f64::min);
    let verdict = if worst <= GOAL { "met" } else { "NOT met" };
    println!("\ngoal at most {GOAL} x at every size: {verdict} (worst {worst:.2} x)");
    println!("a row at the dearest size costs {spread:.2} x one at the cheapest");
    Ok(())
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
    let position = ((values.len() - 1) as f64 * part).round() as usize;
    values[position]
}

/// What Experian answers to the two calls of one read.
struct Documents {
    size: usize,
    vendor: &'static Vendor,
    id: BatchId,
    replies: [Reply; 2],
}

impl Documents {
    fn new(size: usize) -> Result<Self, Failure> {
        let vendor = VENDORS.iter().find(|vendor| vendor.info.slug == "experian").ok_or("no such vendor")?;
        let received_at: Timestamp = "2026-11-22T10:00:00Z".parse()?;
        let reply = |document: &Value| -> Result<Reply, Failure> {
            let body = Bytes::from(serde_json::to_vec(document)?);
            Ok(Reply::new(200, HeaderMap::new(), body, received_at))
        };
        let replies = [reply(&status(size))?, reply(&results(size))?];
        Ok(Self { size, vendor, id: ID.parse()?, replies })
    }

    /// What the gateway does with the answers: its JSON's length.
    fn normalise(&self) -> Result<usize, Failure> {
        let batch = self.vendor.decode(&self.id, None, &self.replies)?;
        Ok(black_box(serde_json::to_vec(&batch)?).len())
    }

    /// What any service with typed structs does with them.
    fn decode_and_encode(&self) -> Result<usize, Failure> {
        let [status, results] = &self.replies;
        let status: typed::Status = serde_json::from_slice(&status.body)?;
        let results: typed::Results = serde_json::from_slice(&results.body)?;
        let status = black_box(serde_json::to_vec(&status)?);
        let results = black_box(serde_json::to_vec(&results)?);
        Ok(status.len() + results.len())
    }

    fn ns_per_row(&self, side: Side) -> Result<f64, Failure> {
        let batches = (ROWS_PER_TURN / self.size).max(1);
        let began = Instant::now();
        for _ in 0..batches {
            black_box(side(black_box(self))?);
        }
        Ok(per_row(began.elapsed(), batches * self.size))
    }
}

#[expect(clippy::cast_precision_loss)]
fn per_row(elapsed: Duration, rows: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / rows as f64
}

fn status(size: usize) -> Value {
    json!({
        "result": {
            "batch_id": ID,
            "batch_reference_id": "crm-export-2026-11",
            "status": "completed",
            "records": size,
            "records_processed": size,
            "date_submitted": "2026-11-20T09:15:04.2410698Z",
            "date_started": "2026-11-20T09:15:09.1184520Z",
            "date_ended": "2026-11-20T09:31:47.9071133Z",
        },
        "metadata": {
            "batch_config": {
                "output_format": "PLUS_E164",
                "country_iso": "GBR",
                "get_ported_date": true,
                "supplementary_live_status": {"mobile": ["USA", "CAN"], "landline": ["GBR"]},
                "max_processing_time": "PT25M",
            },
        },
    })
}

fn results(size: usize) -> Value {
    let phones: Vec<Value> = (0..size as u64).map(phone).collect();
    let count = |word: &str| phones.iter().filter(|phone| phone["confidence"] == *word).count();
    let statistics: Value =
        CONFIDENCES.iter().map(|word| json!({"name": word, "value": count(word)})).collect();
    json!({
        "result": {
            "batch_id": ID,
            "batch_reference_id": "crm-export-2026-11",
            "credits_charged": size * 2,
            "status": "completed",
            "statistics": statistics,
            "phones": phones,
        },
    })
}

const CONFIDENCES: [&str; 7] =
    ["verified", "absent", "teleservice not provisioned", "unverified", "dead", "unknown", "no coverage"];

/// Where numbers come from: a calling code, a mobile prefix and how many digits follow it.
struct Country {
    alpha3: &'static str,
    name: &'static str,
    calling_code: &'static str,
    prefix: &'static str,
    digits: usize,
    operators: [(&'static str, &'static str); 2],
}

const COUNTRIES: [Country; 7] = [
    Country {
        alpha3: "GBR",
        name: "United Kingdom",
        calling_code: "44",
        prefix: "7400",
        digits: 6,
        operators: [("EE Limited", "23430"), ("Vodafone Limited", "23415")],
    },
    Country {
        alpha3: "USA",
        name: "United States",
        calling_code: "1",
        prefix: "212736",
        digits: 4,
        operators: [("T-Mobile USA", "310260"), ("Verizon Wireless", "311480")],
    },
    Country {
        alpha3: "CAN",
        name: "Canada",
        calling_code: "1",
        prefix: "226972",
        digits: 4,
        operators: [("Rogers Wireless", "302720"), ("Bell Mobility", "302610")],
    },
    Country {
        alpha3: "DEU",
        name: "Germany",
        calling_code: "49",
        prefix: "1512",
        digits: 7,
        operators: [("Telekom Deutschland", "26201"), ("Telefónica Germany", "26203")],
    },
    Country {
        alpha3: "FRA",
        name: "France",
        calling_code: "33",
        prefix: "612",
        digits: 6,
        operators: [("Orange", "20801"), ("Bouygues Telecom", "20820")],
    },
    Country {
        alpha3: "ITA",
        name: "Italy",
        calling_code: "39",
        prefix: "331",
        digits: 7,
        operators: [("TIM", "22201"), ("Vodafone Italia", "22210")],
    },
    Country {
        alpha3: "AUS",
        name: "Australia",
        calling_code: "61",
        prefix: "412",
        digits: 6,
        operators: [("Telstra", "50501"), ("Optus", "50502")],
    },
];

/// One row of the results: out of 20, 15 are verified mobiles, 1 is badly formatted, the others say other words.
fn phone(index: u64) -> Value {
    let random = scramble(index);
    if random.is_multiple_of(20) {
        let number = format!("0{:05}", random / 20 % 100_000);
        return json!({
            "number": number,
            "validated_phone_number": number,
            "formatted_phone_number": "",
            "phone_type": "bad format",
            "confidence": "unverified",
            "ported_date": "not applicable",
            "disposable_number": "unknown",
        });
    }
    let pick = |salt: u64, count: u64| scramble(random ^ salt) % count;
    let country = &COUNTRIES[usize::try_from(pick(1, 7)).unwrap_or(0)];
    let subscriber = pick(2, 10_u64.pow(u32::try_from(country.digits).unwrap_or(4)));
    let national = format!("{}{subscriber:0digits$}", country.prefix, digits = country.digits);
    let number = format!("{}{national}", country.calling_code);
    let confidence = match random % 20 {
        1..=15 => "verified",
        16 => "absent",
        17 => "dead",
        18 => "unknown",
        _ => "no coverage",
    };
    let (present, original) = (country.operators[0], country.operators[usize::from(pick(3, 5) == 0)]);
    let ported = present.1 != original.1;
    json!({
        "number": number,
        "validated_phone_number": number,
        "formatted_phone_number": format!("+{number}"),
        "phone_type": if pick(4, 9) == 0 { "mobile or landline" } else { "mobile" },
        "confidence": confidence,
        "ported_date": if ported { "2021-03-14T00:00:00Z" } else { "not applicable" },
        "disposable_number": "unknown",
        "metadata": {
            "original_operator_name": original.0,
            "original_network_status": "available",
            "original_home_network_identity": original.1,
            "original_country_prefix": country.calling_code,
            "original_country_name": country.name,
            "original_country_iso": country.alpha3,
            "operator_name": present.0,
            "network_status": "available",
            "home_network_identity": present.1,
            "country_prefix": country.calling_code,
            "country_name": country.name,
            "country_iso": country.alpha3,
            "is_ported": if ported { "yes" } else { "no" },
            "email_to_sms_address": format!("{national}@sms.example.net"),
            "email_to_mms_address": format!("{national}@mms.example.net"),
        },
    })
}

/// The same "random" number for the same input at every run: one step of `SplitMix64`.
const fn scramble(input: u64) -> u64 {
    let z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The vendor's documents as any service would write them down: every documented field, owned.
mod typed {
    use serde::{Deserialize, Serialize};

    #[derive(Deserialize, Serialize)]
    pub(super) struct Status {
        result: StatusResult,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<StatusMetadata>,
    }

    #[derive(Deserialize, Serialize)]
    struct StatusResult {
        #[serde(skip_serializing_if = "Option::is_none")]
        batch_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        batch_reference_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        records: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        records_processed: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        date_submitted: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        date_started: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        date_ended: Option<String>,
    }

    #[derive(Deserialize, Serialize)]
    struct StatusMetadata {
        #[serde(skip_serializing_if = "Option::is_none")]
        batch_config: Option<BatchConfig>,
    }

    #[derive(Deserialize, Serialize)]
    struct BatchConfig {
        #[serde(skip_serializing_if = "Option::is_none")]
        output_format: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        country_iso: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        get_ported_date: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        supplementary_live_status: Option<LiveStatus>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_processing_time: Option<String>,
    }

    #[derive(Deserialize, Serialize)]
    struct LiveStatus {
        #[serde(skip_serializing_if = "Option::is_none")]
        mobile: Option<Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        landline: Option<Vec<String>>,
    }

    #[derive(Deserialize, Serialize)]
    pub(super) struct Results {
        result: ResultsResult,
    }

    #[derive(Deserialize, Serialize)]
    struct ResultsResult {
        #[serde(skip_serializing_if = "Option::is_none")]
        batch_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        batch_reference_id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        credits_charged: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        statistics: Vec<Statistic>,
        phones: Vec<Phone>,
    }

    #[derive(Deserialize, Serialize)]
    struct Statistic {
        name: String,
        value: u64,
    }

    #[expect(clippy::struct_field_names)]
    #[derive(Deserialize, Serialize)]
    struct Phone {
        #[serde(skip_serializing_if = "Option::is_none")]
        number: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        validated_phone_number: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        formatted_phone_number: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phone_type: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ported_date: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        disposable_number: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<PhoneMetadata>,
    }

    #[derive(Deserialize, Serialize)]
    struct PhoneMetadata {
        #[serde(skip_serializing_if = "Option::is_none")]
        original_operator_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        original_network_status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        original_home_network_identity: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        original_country_prefix: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        original_country_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        original_country_iso: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        operator_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        network_status: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        home_network_identity: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        country_prefix: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        country_name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        country_iso: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_ported: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        email_to_sms_address: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        email_to_mms_address: Option<String>,
    }
}
