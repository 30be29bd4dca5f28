//! All that is wrong with a configuration, shown with the lines it stands on.
//!
//! Invariant: there is at least one problem, and each says where it is and, where that can be guessed, what was meant.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use std::fmt;
use std::ops::Range;

/// Why a file is not a configuration.
#[derive(Debug)]
pub struct Errors {
    name: String,
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    /// Bytes of the text; `None` when it is about the file as a whole.
    pub span: Option<Range<usize>>,
    pub help: Option<String>,
}

impl Errors {
    pub(in crate::config) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Errors {
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        Errors { name: name.to_owned(), source: NamedSource::new(name, text.to_owned()), problems }
    }

    pub(in crate::config) fn of_file(path: &str, why: String) -> Errors {
        let problem = Problem { message: why, span: None, help: None };
        Errors::new(path, "", vec![problem])
    }

    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// For a terminal or a log: every problem with its line, without colours.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
        match handler.render_report(&mut out, self) {
            Ok(()) => out,
            Err(fmt::Error) => self.to_string(),
        }
    }
}

/// Short: the number of problems and the first of them.
impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] if only.span.is_none() => write!(f, "{}: {}", self.name, only.message),
            [_] => write!(f, "{}: one error", self.name),
            problems => write!(f, "{}: {} errors", self.name, problems.len()),
        }
    }
}

impl std::error::Error for Errors {}

impl Diagnostic for Errors {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        let shown = self.problems.iter().filter(|problem| problem.span.is_some());
        Some(Box::new(shown.map(|problem| problem as &dyn Diagnostic)))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span))))
    }
}
