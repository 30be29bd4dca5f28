//! One round of questions about one statement: the client's connection, its parameters and the time there is.
//!
//! Invariants: after the connection is lost or the client cancels, nothing more is asked; after the time for counting has
//! passed, once, nothing more is counted and the planner's estimates must do, so that many questions do not wait many times.
//! A number is called exact only when the server counted to the end.

use crate::database::catalog::{odd, reason};
use crate::database::{Answer, Ask, AskError, scan};
use crate::policy::question::{Known, Rows};
use crate::protocol::Parameters;
use crate::sql::Product;
use serde_json::Value;
use std::time::Instant;

pub(in crate::database) struct Interview<'a, A> {
    pub asker: &'a mut A,
    pub parameters: Option<&'a Parameters>,
    pub now: &'a (dyn Fn() -> Instant + Sync),
    /// Counting ends here.
    pub deadline: Instant,
    /// The most rows that are counted one by one.
    pub count_bound: u64,
    pub product: Product,
    late: bool,
    over: Option<AskError>,
}

impl<'a, A: Ask> Interview<'a, A> {
    pub fn new(
        asker: &'a mut A,
        parameters: Option<&'a Parameters>,
        now: &'a (dyn Fn() -> Instant + Sync),
        deadline: Instant,
        count_bound: u64,
        product: Product,
    ) -> Interview<'a, A> {
        // MySQL's questions have the values in their text.
        let parameters = parameters.filter(|_| !product.is_mysql());
        Interview { asker, parameters, now, deadline, count_bound, product, late: false, over: None }
    }

    /// Whether there is still somebody to ask.
    pub fn open(&self) -> Result<(), String> {
        self.over.as_ref().map_or(Ok(()), |over| Err(reason(over)))
    }

    /// One question. Texts made from the client's statement need its parameters; ours must not get them.
    pub async fn ask(&mut self, sql: &str, parameters: Option<&Parameters>) -> Result<Answer, AskError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        let answer = self.asker.ask(sql, parameters).await;
        if let Err(error @ (AskError::Lost | AskError::Cancelled)) = &answer {
            self.over = Some(error.clone());
        }
        answer
    }

    /// A question of our own whose answer is one JSON document; `Value::Null` when there is no row.
    pub async fn document(&mut self, sql: &str) -> Result<Value, String> {
        let answer = self.ask(sql, None).await.map_err(|error| reason(&error))?;
        match answer.rows.first().and_then(|row| row.first()) {
            Some(Some(json)) => serde_json::from_str(json).map_err(|_| odd()),
            Some(None) | None => Ok(Value::Null),
        }
    }

    /// Rows by a question that counts to one more than the bound; by the planner when time is up.
    pub async fn rows(&mut self, count: &str) -> Known<Rows> {
        if !self.out_of_time() {
            let parameters = self.parameters;
            match self.ask(count, parameters).await {
                Ok(answer) => {
                    return first_number(&answer)
                        .map_or_else(|| Known::Unknown(odd()), |n| Known::Known(self.bounded(n)));
                }
                Err(AskError::Deadline) => self.late = true,
                Err(error) => return Known::Unknown(reason(&error)),
            }
        }
        match self.plan(count).await {
            Ok(plan) => self.rows_of(&plan).map_or_else(|| Known::Unknown(odd()), |n| Known::Known(Rows::Estimate(n))),
            Err(reason) => Known::Unknown(reason),
        }
    }

    /// The plan of a question. Only for texts whose functions are known to be harmless: planning can run them.
    pub async fn plan(&mut self, question: &str) -> Result<Value, String> {
        let parameters = self.parameters;
        let explain = if self.product.is_mysql() { "EXPLAIN FORMAT=JSON" } else { "EXPLAIN (FORMAT JSON)" };
        let answer = self.ask(&format!("{explain} {question}"), parameters).await;
        let answer = answer.map_err(|error| reason(&error))?;
        let lines: Vec<&str> = answer.rows.iter().filter_map(|row| row.first()?.as_deref()).collect();
        let plan: Value = serde_json::from_str(&lines.join("\n")).map_err(|_| odd())?;
        if self.product.is_mysql() {
            return Ok(plan);
        }
        plan.get(0).and_then(|plan| plan.get("Plan")).cloned().ok_or_else(odd)
    }

    pub fn out_of_time(&mut self) -> bool {
        self.late = self.late || (self.now)() >= self.deadline;
        self.late
    }

    fn rows_of(&self, plan: &Value) -> Option<u64> {
        if self.product.is_mysql() { scan::mysql::rows(plan) } else { plan_rows(plan) }
    }

    fn bounded(&self, counted: u64) -> Rows {
        if counted > self.count_bound { Rows::AtLeast(counted) } else { Rows::Exact(counted) }
    }
}

/// The number in an answer's first cell.
pub(in crate::database) fn first_number(answer: &Answer) -> Option<u64> {
    answer.rows.first()?.first()?.as_deref()?.parse().ok()
}

/// The planner's rows below the counting, where no limit has cut them.
fn plan_rows(plan: &Value) -> Option<u64> {
    let mut node = plan;
    while let Some("Aggregate" | "Limit" | "Subquery Scan" | "Gather") = node["Node Type"].as_str() {
        match node["Plans"].as_array().and_then(|plans| plans.first()) {
            Some(below) => node = below,
            None => break,
        }
    }
    let rows = node["Plan Rows"].as_f64()?;
    // A parallel node's number is one worker's share; by the planner's own rule the leader and the workers share alike or better.
    let workers = if node["Parallel Aware"] == Value::Bool(true) { plan_workers(plan) + 1 } else { 1 };
    Some((rows as u64).saturating_mul(workers))
}

fn plan_workers(plan: &Value) -> u64 {
    let here = plan["Workers Planned"].as_u64().unwrap_or(0);
    plan["Plans"].as_array().into_iter().flatten().map(plan_workers).fold(here, u64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_estimate_is_taken_below_the_limit() {
        let plan = json!({"Node Type": "Aggregate", "Plan Rows": 1, "Plans": [
            {"Node Type": "Limit", "Plan Rows": 10, "Plans": [{"Node Type": "Seq Scan", "Plan Rows": 4000}]}]});
        assert_eq!(plan_rows(&plan), Some(4000));
    }

    #[test]
    fn a_workers_share_is_not_the_whole() {
        let plan = json!({"Node Type": "Limit", "Plan Rows": 10, "Plans": [{"Node Type": "Gather", "Workers Planned": 2,
            "Plan Rows": 10, "Plans": [{"Node Type": "Seq Scan", "Parallel Aware": true, "Plan Rows": 1000}]}]});
        assert_eq!(plan_rows(&plan), Some(3000));
    }
}
