//! Questions to a person at a terminal, each of which has a flag instead.
//!
//! Never waits for an answer that cannot come: without a terminal, what is missing is named at once, all of it.

use std::io::{BufRead, Write};

use crate::cli::{InitArgs, ProofKind};
use crate::exit::{Code, Failure};

/// Wrong answers to one question before it is given up.
const TRIES: usize = 5;

/// The longest line that is read as an answer, in bytes.
const LINE_BYTES: u64 = 4096;

/// Where questions go and answers come from.
pub(super) struct Questions<'a> {
    pub(super) input: &'a mut dyn BufRead,
    pub(super) output: &'a mut dyn Write,
    /// Somebody is there to answer.
    pub(super) is_terminal: bool,
    /// `--yes`: nobody is asked what has a default.
    pub(super) takes_defaults: bool,
}

/// One question.
pub(super) struct Question<'a> {
    pub(super) text: &'a str,
    pub(super) flag: &'a str,
    pub(super) default: Option<&'a str>,
}

impl Questions<'_> {
    /// Refuses flags that contradict each other, and names every one that is missing when nobody can be asked.
    pub(super) fn check_all_can_be_answered(&self, args: &InitArgs) -> Result<(), Failure> {
        if let (Some(named), Some(meant)) = (args.credential, args.proof_kind())
            && named != meant
        {
            return Err(Failure::new(Code::Usage, "--credential names another kind than the flags that describe it"));
        }
        if self.is_terminal {
            return Ok(());
        }
        let mut missing = Vec::new();
        if !self.takes_defaults {
            let has_proof = args.credential.is_some() || args.proof_kind().is_some();
            let with_default = [
                ("--cloud", args.cloud.is_some()),
                ("--public-url", args.public_url.is_some()),
                ("--name", args.name.is_some()),
                ("--dlp", args.dlp.is_some()),
                ("--credential", has_proof),
            ];
            missing.extend(with_default.iter().filter(|(_, given)| !given).map(|(flag, _)| *flag));
        }
        if args.cloud.as_deref() == Some("custom") {
            let custom = [("--login", args.login.is_some()), ("--activity", args.activity.is_some())];
            missing.extend(custom.iter().filter(|(_, given)| !given).map(|(flag, _)| *flag));
        }
        let kind = args.credential.or(args.proof_kind());
        missing.extend(missing_of_proof(args, kind, self.takes_defaults));
        let needs_home = !args.prepare || kind == Some(ProofKind::ManagedIdentity);
        let needed = [
            ("--client-id", args.prepare || args.client_id.is_some()),
            ("--publisher-id", !needs_home || args.publisher_id.is_some()),
        ];
        missing.extend(needed.iter().filter(|(_, given)| !given).map(|(flag, _)| *flag));
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Code::Usage,
            format!(
                "stdin is no terminal, so nothing can be asked, and these are missing: {}; --yes takes the defaults of those \
                 that have one, and --prepare needs no client id",
                missing.join(", ")
            ),
        ))
    }

    /// Asks until the answer can be read.
    pub(super) fn ask<T>(
        &mut self,
        question: &Question<'_>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        if let (true, Some(default)) = (self.takes_defaults, question.default) {
            return read(default).map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", question.flag)));
        }
        let unanswered = || {
            let text = format!("there was no answer to {:?}: give {} instead", question.text, question.flag);
            Failure::new(Code::Usage, text)
        };
        if !self.is_terminal {
            return Err(unanswered());
        }
        for _ in 0..TRIES {
            let hint = question.default.map(|default| format!(" [{default}]")).unwrap_or_default();
            // A closed stderr is no reason not to go on.
            let _ = write!(self.output, "{} ({}){hint}: ", question.text, question.flag);
            let _ = self.output.flush();
            let mut line = String::new();
            let read_bytes = std::io::Read::take(&mut *self.input, LINE_BYTES).read_line(&mut line);
            if !read_bytes.is_ok_and(|bytes| bytes > 0) {
                return Err(unanswered());
            }
            let answer = match line.trim() {
                "" => question.default.unwrap_or_default(),
                given => given,
            };
            match read(answer) {
                Ok(value) => return Ok(value),
                Err(error) => {
                    let _ = writeln!(self.output, "  {error}");
                }
            }
        }
        Err(unanswered())
    }
}

/// The flags of one kind of credential that nobody has given.
fn missing_of_proof(args: &InitArgs, kind: Option<ProofKind>, takes_defaults: bool) -> Vec<&'static str> {
    let flags = match kind {
        None => vec![],
        Some(ProofKind::Certificate) => vec![("--certificate", takes_defaults || args.certificate.is_some())],
        Some(ProofKind::Secret) => vec![("--secret-file", args.secret_file.is_some() || args.secret_env.is_some())],
        Some(ProofKind::Federated) => vec![
            ("--token-file", takes_defaults || args.token_file.is_some()),
            ("--issuer", args.issuer.is_some()),
            ("--subject", args.subject.is_some()),
        ],
        Some(ProofKind::ManagedIdentity) => vec![("--managed-identity", args.managed_identity.is_some())],
    };
    flags.into_iter().filter(|(_, given)| !given).map(|(flag, _)| flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        input: &str,
        default: Option<&str>,
        is_terminal: bool,
        takes_defaults: bool,
    ) -> (Result<u8, Failure>, String) {
        let (mut input, mut output) = (input.as_bytes(), Vec::new());
        let mut questions = Questions { input: &mut input, output: &mut output, is_terminal, takes_defaults };
        let question = Question { text: "How many", flag: "--many", default };
        let answer = questions.ask(&question, |text| text.parse().map_err(|_| format!("{text:?} is no number")));
        (answer, String::from_utf8(output).unwrap())
    }

    #[test]
    fn an_answer_is_asked_for_until_it_can_be_read() {
        let (answer, shown) = ask("many\n\n 7 \n", None, true, false);
        assert_eq!(answer.unwrap(), 7);
        assert!(shown.contains("How many (--many): ") && shown.contains("\"many\" is no number"), "{shown}");
        assert_eq!(ask("\n", Some("3"), true, false).0.unwrap(), 3);
        let (gave_up, shown) = ask(&"x\n".repeat(9), None, true, false);
        assert!(gave_up.unwrap_err().message.contains("--many"));
        assert_eq!(shown.matches("How many").count(), TRIES);
    }

    #[test]
    fn nobody_is_asked_who_cannot_answer_or_takes_the_defaults() {
        let (answer, shown) = ask("9\n", Some("3"), true, true);
        assert_eq!((answer.unwrap(), shown.as_str()), (3, ""));
        let (answer, shown) = ask("9\n", None, false, true);
        assert!(answer.unwrap_err().message.contains("--many") && shown.is_empty());
        assert!(ask("", None, true, false).0.is_err(), "the end of the input is no answer");
    }
}
