//! Answers that are whole and contradict themselves, each other or the question.

use phone_gateway::providers::VENDORS;
use serde_json::json;

use super::{options, running};
use crate::helpers::{Answer, Replies, order};

#[tokio::test]
async fn after_an_answer_about_another_batch_the_connection_is_not_used_again() {
    let scripted = Replies::start().await;
    let other = Answer::json(&json!({
        "general": {"id": "y", "status": "ongoing"}, "result": {"batch_id": "y", "status": "processing"},
    }));
    let own = Answer::json(&json!({
        "general": {"id": "x", "status": "ongoing"}, "result": {"batch_id": "x", "status": "processing"},
    }));
    for vendor in VENDORS {
        let slug = vendor.info.slug;
        scripted.clear();
        scripted.in_turn("", &[own.clone(), other.clone(), own.clone(), own.clone()]);
        let gateway = options(&scripted).start().await;
        let mut seen = Vec::new();
        for right in [true, false, true, true] {
            let reply = gateway.batch(slug, "x").await;
            if right {
                assert_eq!(reply.batch()["id"], "x");
            } else {
                reply.assert_problem(502, "provider_integrity");
                assert_eq!(gateway.listed(slug, "y").await, None, "nothing of it is kept");
            }
            seen.push(scripted.connections());
            gateway.advance_seconds(30);
        }
        assert_eq!(seen, [1, 1, 2, 2], "{slug}");
    }
}

#[tokio::test]
async fn an_order_answered_with_another_batchs_start_is_in_doubt() {
    let scripted = Replies::start().await;
    scripted.on("/start", Answer::json(&json!({"result": {"batch_id": "y", "status": "processing"}})));
    scripted.on("/batches", Answer::json(&json!({"result": {"batch_id": "x", "status": "submitted"}})));
    let gateway = options(&scripted).start().await;
    let lost = gateway.submit("experian", "k", &order("experian")).await;
    lost.assert_problem(504, "submission_in_doubt");
    gateway.submit("experian", "k", &order("experian")).await.assert_problem(409, "submission_in_doubt");
    assert_eq!((scripted.posts(), gateway.listed("experian", "y").await), (2, None));
}

#[tokio::test]
async fn an_odd_success_is_read_by_its_body() {
    let body = br#"{"general": {"id": "x", "status": "ongoing"}, "result": {"batch_id": "x", "status": "processing"}}"#;
    for vendor in VENDORS {
        for (status, body, read) in [
            (202, &body[..], true),
            (206, body, true),
            (202, b"", false),
            (204, b"", false),
            (206, b"", false),
        ] {
            let scripted = Replies::start().await;
            scripted.on("", Answer::new(status, &[], body));
            let gateway = options(&scripted).start().await;
            let reply = gateway.batch(vendor.info.slug, "x").await;
            if read {
                assert_eq!(reply.batch()["status"], "running", "{status}");
            } else {
                reply.assert_problem(502, "provider_malformed");
            }
        }
    }
}

#[tokio::test]
async fn values_of_a_wrong_kind_never_become_an_end() {
    for status in ["null", "7", "[]", "{}", "true", "\"\"", "1e400", &format!("1{}", "0".repeat(400))] {
        for vendor in VENDORS {
            let scripted = Replies::start().await;
            let body = format!(
                r#"{{"general": {{"id": "x", "status": {status}}}, "result": {{"batch_id": "x", "status": {status}}}}}"#
            );
            scripted.on("", Answer::new(200, &[], body.as_bytes()));
            let gateway = options(&scripted).start().await;
            let reply = gateway.batch(vendor.info.slug, "x").await;
            if reply.status == 200 {
                assert_eq!(reply.batch()["done"], false, "{status}");
            } else {
                reply.assert_problem(502, "provider_malformed");
            }
        }
    }
}

#[tokio::test]
async fn an_odd_batch_does_not_shut_out_the_others() {
    let scripted = Replies::start().await;
    let gateway = options(&scripted).start().await;
    for odd in [
        Answer::new(200, &[], b"<html>"),
        Answer::json(&json!({"general": {"id": "y", "status": "ongoing"}})),
        Answer::new(418, &[], b"{}"),
        Answer::new(429, &[], b"{}"),
    ] {
        scripted.clear();
        scripted.on("", odd);
        for _ in 0..12 {
            gateway.batch("enrow", "odd").await;
        }
        assert_eq!(scripted.requests().len(), 12);
    }
    scripted.clear();
    scripted.on("", running());
    gateway.batch("enrow", "x").await.batch();
}
