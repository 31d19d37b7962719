//! Certificates that must not be believed.

use std::path::Path;
use std::sync::Arc;

use phone_gateway::settings::DEFAULTS;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::running;
use crate::helpers::{Answer, Options, Process, Replica, Replies, Site, eventually, order};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A port where TLS with this certificate stands before a vendor.
async fn tls(authority: &Authority, name: &str, expired: bool, vendor: &Replies) -> u16 {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(if expired { 2021 } else { 2090 }, 1, 1);
    let certificate = parameters.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, vendor) = (listener.local_addr().unwrap().port(), vendor.address);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut vendor = TcpStream::connect(vendor).await?;
                copy_bidirectional(&mut stream, &mut vendor).await
            });
        }
    });
    port
}

/// A gateway that believes the authority whose certificate is in the file.
async fn believing(file: &Path, port: u16) -> (Site, Replica) {
    let url = format!("https://localhost:{port}");
    let site = Site::new(Options::default().set("http.attempts", "1").vendor("enrow", "base_url", url)).await;
    let mut variables = site.variables();
    variables.push(("SSL_CERT_FILE".to_owned(), file.display().to_string()));
    let replica = Replica::ready(Process::spawn(&["serve"], &variables), &site.http).await;
    (site, replica)
}

#[tokio::test]
async fn only_a_certificate_of_the_right_name_and_time_is_believed() {
    let vendor = Replies::start().await;
    let directory = tempfile::tempdir().unwrap();
    let (known, unknown) = (authority(), authority());
    let file = directory.path().join("authority.pem");
    std::fs::write(&file, pem(&known)).unwrap();
    for (authority, name, expired, good) in [
        (&known, "localhost", false, true),
        (&known, "localhost", true, false),
        (&known, "vendor.example", false, false),
        (&unknown, "localhost", false, false),
    ] {
        vendor.clear();
        vendor.on("/phone/bulk", running());
        let port = tls(authority, name, expired, &vendor).await;
        let (_site, replica) = believing(&file, port).await;
        let read = replica.get("/batches/enrow/x").await;
        vendor.clear();
        vendor.on("/phone/bulk", Answer::new(201, &[], json!({"id": "x"}).to_string().as_bytes()));
        let submitted = replica.submit("enrow", "k", &order("enrow")).await;
        if good {
            assert_eq!((read.batch()["status"].as_str(), submitted.status), (Some("running"), 202));
            continue;
        }
        read.assert_problem(502, "provider_unreachable");
        submitted.assert_problem(502, "provider_unreachable");
        let submission = replica.get(&format!("/submissions/{}", submitted.submission())).await;
        assert_eq!(submission.body["state"], "not_sent", "{name} {expired}");
        assert_eq!(vendor.requests().len(), 0, "{name} {expired}");
        let is_told = |line: &Value| {
            line["request_id"] == read.body["request_id"]
                && line["cause"].as_str().is_some_and(|text| text.starts_with("invalid peer certificate: "))
        };
        let told = eventually("the log tells the cause");
        while !told.is(replica.process.log().iter().any(is_told)).await {}
    }
    // Nothing can be set that would believe them.
    for word in ["insecure", "verify", "danger", "accept_invalid", "certificate"] {
        assert!(!DEFAULTS.contains(word), "{word}");
    }
}

/// The certificate in the form that files have.
fn pem(authority: &Authority) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let body = BASE64_STANDARD.encode(authority.der());
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}
