//! `sluice explain RULE`: a rule's page, and the list of rules.
//!
//! Invariant: what is printed is the page that was tested, and the levels are the ones the presets give.

use crate::policy::rules;

/// The page of a rule; for an unknown one, what may have been meant.
pub fn explain(code: &str) -> Result<&'static str, String> {
    match rules::find(code) {
        Some((_, rule)) => Ok(rule.page()),
        None => Err(unknown(code)),
    }
}

/// Every rule on a line: code, level under `standard` and `strict`, title.
pub fn list() -> String {
    let mut out = format!("{:<18} {:<9} {:<9} {}\n", "rule", "standard", "strict", "matches");
    for rule in rules::all() {
        let (standard, strict) = (rule.standard().to_string(), rule.strict().to_string());
        out.push_str(&format!("{:<18} {standard:<9} {strict:<9} {}\n", rule.code(), rule.title()));
    }
    out
}

fn unknown(code: &str) -> String {
    let codes = rules::all().iter().map(|rule| rule.code());
    let nearest = codes.min_by_key(|known| strsim::damerau_levenshtein(code, known));
    let near = nearest.filter(|known| strsim::damerau_levenshtein(code, known) <= known.len() / 3);
    match near {
        Some(near) => format!("no rule is called `{code}`; did you mean `{near}`?"),
        None => format!("no rule is called `{code}`; the rules are:\n\n{}", list()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_rule_has_its_page() {
        for line in list().lines().skip(1) {
            let code = line.split(' ').next().expect("a code");
            assert!(explain(code).is_ok_and(|page| page.starts_with(&format!("# {code}\n"))), "{code}");
        }
    }

    #[test]
    fn an_unknown_rule_names_what_may_have_been_meant() {
        assert_eq!(
            explain("mising-where"),
            Err("no rule is called `mising-where`; did you mean `missing-where`?".to_owned())
        );
        assert!(explain("colour").is_err_and(|why| why.contains("missing-where") && why.contains("cascade")));
    }
}
