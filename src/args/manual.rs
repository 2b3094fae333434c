//! A man page of a command's table, as roff with the macros of man(7).

use std::fmt::Write as _;

use super::{Command, Flag};

/// The page of a command, with its verbs.
pub(super) fn of(command: &Command) -> String {
    let (name, version) = (command.name, env!("CARGO_PKG_VERSION"));
    let mut page = format!(".TH {} 1 \"\" \"enjambre {version}\" \"Enjambre\"\n", name.to_uppercase());
    let _ = write!(page, ".SH NAME\n{name} \\- {}\n.SH SYNOPSIS\n", plain(command.about));
    for form in [command].iter().chain(command.verbs) {
        let operands: String =
            form.operands.iter().map(|(operand, _)| format!(" \\fI{}\\fR", plain(operand))).collect();
        let _ = write!(page, ".B {}\n{operands} [\\fIflags\\fR]\n.br\n", form.name);
    }
    page.push_str(".SH OPTIONS\n");
    options(&mut page, command);
    for verb in command.verbs {
        let _ = write!(page, ".SH {}\n{}.\n", verb.name.to_uppercase(), plain(&capital(verb.about)));
        options(&mut page, verb);
        codes(&mut page, verb);
    }
    if !command.more.is_empty() {
        let _ = write!(page, ".SH NOTES\n{}", plain(command.more));
    }
    page.push_str(".SH EXIT STATUS\n");
    codes(&mut page, command);
    page
}

fn options(page: &mut String, command: &Command) {
    for (operand, help) in command.operands {
        item(page, &format!("\\fI{}\\fR", plain(operand)), help);
    }
    for (short, flag) in command.call_flags {
        item(page, &format!("\\fB{}\\fR, {}", plain(short), written(flag)), flag.help);
    }
    for flag in command.flags {
        item(page, &written(flag), &format!("{} [{}]", flag.help, flag.variable()));
    }
    for (left, help) in command.own_flags().iter().chain(command.variables) {
        item(page, &format!("\\fB{}\\fR", plain(left)), help);
    }
}

fn codes(page: &mut String, command: &Command) {
    command.codes.iter().for_each(|(code, when)| item(page, code, when));
}

fn item(page: &mut String, left: &str, help: &str) {
    let _ = write!(page, ".TP\n{left}\n{}\n", plain(help));
}

fn written(flag: &Flag) -> String {
    format!("\\fB{}\\fR \\fI{}\\fR", plain(flag.name), plain(flag.value)).replace(" \\fI\\fR", "")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text in which roff finds nothing to obey.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_obeyed() {
        assert_eq!(plain(".so /etc/passwd\n'br \\n(.s --x"), "\\&.so /etc/passwd\n\\(aqbr \\en(.s \\-\\-x");
    }
}
