//! Command lines: one table describes a command, makes its `--help`, its man page and what shells complete, and names
//! its variables.

mod completions;
mod manual;

use std::{ffi::OsString, fmt::Display, fmt::Write as _, str::FromStr};

/// What a command takes.
pub struct Command {
    /// The binary's name.
    pub name: &'static str,
    /// One line: what it is.
    pub about: &'static str,
    /// What stands on its command line without a dash: name and explanation, all of them required.
    pub operands: &'static [(&'static str, &'static str)],
    /// Its flags; each takes a value.
    pub flags: &'static [Flag],
    /// Flags that are about one call, so that no variable stands in for them; each with its short form.
    pub call_flags: &'static [(&'static str, Flag)],
    /// What it does when this stands first on its command line, as `get` does: a command of its own, whose name
    /// ends with that word.
    pub verbs: &'static [&'static Command],
    /// Variables that stand in for no flag, since their values should be in no list of processes: name and
    /// explanation.
    pub variables: &'static [(&'static str, &'static str)],
    /// More lines for `--help`.
    pub more: &'static str,
    /// With what it exits, and when.
    pub codes: &'static [(&'static str, &'static str)],
}

/// One flag. Its variable is `ENJAMBRE_` and its name in capitals, `_` for `-`.
pub struct Flag {
    /// With its dashes, as `--lease`.
    pub name: &'static str,
    /// What its value is called, as `SECONDS`; empty for a flag without a value, which the
    /// variable sets with `1`. One that ends with `...` may be given several times, and is then a list with
    /// commas, as it is in the variable.
    pub value: &'static str,
    /// One line, the default included.
    pub help: &'static str,
}

impl Flag {
    /// The variable that stands in for the flag.
    pub fn variable(&self) -> String {
        format!("ENJAMBRE_{}", self.name.trim_start_matches('-').replace('-', "_").to_uppercase())
    }

    fn is_repeatable(&self) -> bool {
        self.value.ends_with("...") && !self.value.contains(',')
    }

    /// What the command line says by these names, as often as it may.
    fn take(
        &self,
        names: impl Into<pico_args::Keys> + Copy,
        args: &mut pico_args::Arguments,
    ) -> Result<Option<String>, String> {
        if self.value.is_empty() {
            return Ok(args.contains(names).then(|| "1".to_owned()));
        }
        let owned = |value: &str| Ok::<_, String>(value.to_owned());
        let values = if self.is_repeatable() {
            args.values_from_fn(names, owned)
        } else {
            args.opt_value_from_fn(names, owned).map(Vec::from_iter)
        };
        let values =
            values.map_err(|_| format!("{} needs a value, in UTF-8: {} {}", self.name, self.name, self.value))?;
        Ok((!values.is_empty()).then(|| values.join(",")))
    }
}

impl Command {
    /// The text of `--help`.
    pub fn help(&self) -> String {
        let mut text = format!("{} {}: {}\n\nUsage: {}", self.name, env!("CARGO_PKG_VERSION"), self.about, self.name);
        for (operand, _) in self.operands {
            let _ = write!(text, " <{operand}>");
        }
        text.push_str(" [flags]\n");
        for verb in self.verbs {
            let _ = writeln!(text, "       {}: {}", verb.call(), verb.about);
        }
        text.push('\n');
        let left = |name: &str, value: &str| format!("{name} {value}").trim_end().to_owned();
        let flags = self.flags.iter().map(|flag| (left(flag.name, flag.value), flag.help, flag.variable()));
        let call_flags = self.call_flags.iter().map(|(short, flag)| {
            let names = format!("{short}, {}", flag.name);
            (left(&names, flag.value), flag.help)
        });
        let lefts = flags.clone().map(|(left, ..)| left).chain(call_flags.clone().map(|(left, _)| left));
        let width = lefts.map(|left| left.len()).max().unwrap_or(0).max(12);
        for (operand, help) in self.operands {
            let _ = writeln!(text, "  {:width$}  {help}", format!("<{operand}>"));
        }
        for (left, help) in call_flags {
            let _ = writeln!(text, "  {left:width$}  {help}");
        }
        for (left, help, variable) in flags {
            let _ = writeln!(text, "  {left:width$}  {help} [{variable}]");
        }
        for (left, help) in self.own_flags().iter().chain(self.variables) {
            let _ = writeln!(text, "  {left:width$}  {help}");
        }
        if !self.more.is_empty() {
            let _ = write!(text, "\n{}", self.more);
        }
        text.push_str("\nExit codes:\n");
        for (code, when) in self.codes {
            let _ = writeln!(text, "  {code:8}  {when}");
        }
        text
    }

    /// Flags that every command has, and those that only one has that is no verb.
    fn own_flags(&self) -> &'static [(&'static str, &'static str)] {
        const FLAGS: &[(&str, &str)] = &[
            ("--help", "this text"),
            ("--version", "the version"),
            ("--man", "the man page, for `man -l -`"),
            ("--completions SHELL", "what bash, zsh or fish has to know to complete its arguments"),
        ];
        if self.is_verb() { &FLAGS[..2] } else { FLAGS }
    }

    fn is_verb(&self) -> bool {
        self.name.contains(' ')
    }

    /// How it is called: name and operands.
    fn call(&self) -> String {
        self.operands.iter().fold(self.name.to_owned(), |call, (operand, _)| format!("{call} <{operand}>"))
    }

    /// The word that calls it, of a verb.
    fn word(&self) -> &'static str {
        self.name.rsplit(' ').next().unwrap_or(self.name)
    }

    /// Takes the process's arguments.
    ///
    /// # Errors
    /// A sentence for the person who typed them.
    pub fn parse(&'static self) -> Result<Parsed, String> {
        let mut args: Vec<_> = std::env::args_os().skip(1).collect();
        let verb = self.verbs.iter().find(|verb| args.first().is_some_and(|first| first == verb.word()));
        if verb.is_some() {
            args.remove(0);
        }
        verb.unwrap_or(&self).parse_from(args, |name| std::env::var_os(name))
    }

    fn parse_from(
        &'static self,
        mut args: Vec<OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Parsed, String> {
        // What stands behind `--` is an operand, whatever it looks like.
        let plain = args.iter().position(|arg| arg == "--").map(|at| args.split_off(at));
        let mut args = pico_args::Arguments::from_vec(args);
        if args.contains(["-h", "--help"]) {
            return Ok(Parsed::Text(self.help()));
        }
        if args.contains(["-V", "--version"]) {
            return Ok(Parsed::Text(format!("{} {}\n", self.name, env!("CARGO_PKG_VERSION"))));
        }
        if !self.is_verb() {
            if args.contains("--man") {
                return Ok(Parsed::Text(manual::of(self)));
            }
            let shell = args.opt_value_from_fn("--completions", |shell| Ok::<_, String>(shell.to_owned()));
            if let Some(shell) = shell.map_err(|_| completions::SHELLS.to_owned())? {
                return completions::of(self, &shell).map(Parsed::Text);
            }
        }
        // An empty variable is as good as none, as a unit file's `Environment=X=` would have it.
        let set = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty()).map(OsString::into_string).transpose();
            value.map_err(|_| format!("the value of {name} is not UTF-8"))
        };
        let mut values = Vec::new();
        for flag in self.flags {
            let given = flag.take(flag.name, &mut args)?;
            let from = if given.is_some() { flag.name.to_owned() } else { flag.variable() };
            let value = if given.is_some() { given } else { set(&from)? };
            values.push((flag, value.map(|value| (from, value))));
        }
        for (short, flag) in self.call_flags {
            let given = flag.take([*short, flag.name], &mut args)?;
            values.push((flag, given.map(|value| (flag.name.to_owned(), value))));
        }
        let mut variables = Vec::new();
        for (name, _) in self.variables {
            variables.extend(set(name)?.map(|value| (*name, value)));
        }
        let mut operands = args.finish();
        // One dash alone is what stands for stdin.
        let is_flag = |operand: &&OsString| operand.as_encoded_bytes().starts_with(b"-") && *operand != "-";
        if let Some(left) = operands.iter().find(is_flag) {
            return Err(self.not_taken(&left.to_string_lossy()));
        }
        operands.extend(plain.into_iter().flatten().skip(1));
        if operands.len() != self.operands.len() {
            let call = self.call();
            return Err(match operands.get(self.operands.len()) {
                Some(extra) => format!("unexpected `{}`: the command is `{call} [flags]`", extra.display()),
                None => format!("<{}> is missing: the command is `{call} [flags]`", self.operands[operands.len()].0),
            });
        }
        Ok(Parsed::Args(Args { command: self, operands, values, variables }))
    }

    /// Why something that begins with a dash is left when all flags were taken.
    fn not_taken(&self, left: &str) -> String {
        let name = left.split_once('=').map_or(left, |(name, _)| name);
        let call_flags = self.call_flags.iter().filter(|(short, _)| *short == name).map(|(_, flag)| flag);
        let flags = self.flags.iter().chain(self.call_flags.iter().map(|(_, flag)| flag));
        match flags.filter(|flag| flag.name == name).chain(call_flags).next() {
            Some(flag) if flag.value.is_empty() && left != name => format!("{name} takes no value: write {name} alone"),
            Some(_) => format!("{name} is given twice: give it once"),
            // Without what stands behind it, which may be a secret.
            None => format!("unknown flag {name}: `{} --help` lists the flags", self.name),
        }
    }
}

/// A command line, read.
pub enum Parsed {
    /// `--help` or `--version`: print this to stdout and exit with 0.
    Text(String),
    /// Arguments to act on.
    Args(Args),
}

/// The arguments of a command.
pub struct Args {
    /// Which command it is: the one that was asked to parse, or one of its verbs.
    pub command: &'static Command,
    /// What stood without a dash, as many as the command asks for.
    pub operands: Vec<OsString>,
    /// With each flag the name it was given by, its own or its variable's, and its value.
    values: Vec<(&'static Flag, Option<(String, String)>)>,
    /// Those of the table that are set.
    variables: Vec<(&'static str, String)>,
}

impl Args {
    /// The value of a flag of the table, from the command line or else its variable.
    ///
    /// # Errors
    /// A sentence that names the flag or the variable and says what is wrong with the value.
    pub fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        let (flag, value) = (self.values.iter()).find(|(flag, _)| flag.name == name).expect("the flag is in the table");
        let Some((from, value)) = value else { return Ok(None) };
        let parsed = value.parse();
        parsed.map(Some).map_err(|error| format!("{from} {value}: {error} ({} {})", flag.name, flag.value))
    }

    /// As [`value`](Self::value), for a type that does not say itself how it is written: `how` does.
    ///
    /// # Errors
    /// A sentence that names the flag or the variable, and says how its value is written.
    pub fn value_as<T: FromStr>(&self, name: &str, how: &str) -> Result<Option<T>, String> {
        let parsed = self.value::<String>(name)?.map(|text| text.parse().map_err(|_| text));
        parsed.transpose().map_err(|text| format!("{name} {text}: {how}"))
    }

    /// The values of a flag that may be given more than once, or of its variable with commas between them.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub fn list(&self, name: &str) -> Result<Vec<String>, String> {
        let text = self.value::<String>(name)?.unwrap_or_default();
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(items.map(str::to_owned).collect())
    }

    /// The value of a variable of the table.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag without a value is set.
    ///
    /// # Errors
    /// When its variable is neither 0 nor 1.
    pub fn is_set(&self, name: &str) -> Result<bool, String> {
        let set = self.values.iter().find(|(flag, _)| flag.name == name).and_then(|(_, value)| value.as_ref());
        match set.map(|(from, value)| (from, value.as_str())) {
            None | Some((_, "0")) => Ok(false),
            Some((_, "1")) => Ok(true),
            Some((variable, other)) => Err(format!("{variable} is 1 or 0, not {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static COMMAND: Command = Command {
        name: "thing",
        about: "does things",
        operands: &[("id", "its id")],
        flags: &[
            Flag { name: "--wait-time", value: "SECONDS", help: "how long" },
            Flag { name: "--eager", value: "", help: "at once" },
            Flag { name: "--friend", value: "NAME...", help: "who helps" },
        ],
        call_flags: &[("-o", Flag { name: "--output", value: "FILE", help: "where to" })],
        verbs: &[],
        variables: &[("ENJAMBRE_WORD", "what nobody should see")],
        more: "",
        codes: &[("0", "done")],
    };

    fn parse(args: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, String> {
        COMMAND.parse_from(args.iter().map(OsString::from).collect(), |name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_a_variable_over_nothing() {
        let wait = |args: &[&str], variables: &[(&str, &str)]| match parse(args, variables) {
            Ok(Parsed::Args(args)) => args.value::<u32>("--wait-time"),
            Ok(Parsed::Text(text)) => panic!("{text}"),
            Err(error) => panic!("{error}"),
        };
        let variable = [("ENJAMBRE_WAIT_TIME", "5")];
        assert_eq!(wait(&["a"], &[]), Ok(None));
        assert_eq!(wait(&["a"], &variable), Ok(Some(5)));
        assert_eq!(wait(&["a", "--wait-time", "7"], &variable), Ok(Some(7)));
        assert_eq!(wait(&["--wait-time=7", "a"], &variable), Ok(Some(7)));
        assert!(wait(&["a", "--wait-time", "x"], &[]).unwrap_err().starts_with("--wait-time x: "));
        assert!(wait(&["a"], &[("ENJAMBRE_WAIT_TIME", "x")]).unwrap_err().starts_with("ENJAMBRE_WAIT_TIME x: "));
        let Ok(Parsed::Args(args)) = parse(&["a"], &[("ENJAMBRE_EAGER", "1")]) else { panic!() };
        assert_eq!(args.is_set("--eager"), Ok(true));
    }

    #[test]
    fn a_list_is_given_flag_by_flag_or_with_commas() {
        for (args, variable) in
            [(&["a", "--friend", "x", "--friend=y"][..], ""), (&["--friend", "x,y", "a"], "z"), (&["a"], "x,y")]
        {
            let Ok(Parsed::Args(args)) = parse(args, &[("ENJAMBRE_FRIEND", variable)]) else { panic!("{args:?}") };
            assert_eq!(args.value::<String>("--friend"), Ok(Some("x,y".into())));
        }
    }

    #[test]
    fn a_variable_without_a_flag_has_none_and_what_looks_like_one_is_not_repeated() {
        let Ok(Parsed::Args(args)) = parse(&["a"], &[("ENJAMBRE_WORD", "hush")]) else { panic!() };
        assert_eq!(args.variable("ENJAMBRE_WORD"), Some("hush"));
        let Ok(Parsed::Args(args)) = parse(&["a"], &[("ENJAMBRE_WORD", "")]) else { panic!() };
        assert_eq!(args.variable("ENJAMBRE_WORD"), None);
        for args in [&["a", "--word=hush"][..], &["a", "--word", "hush"]] {
            let Err(error) = parse(args, &[]) else { panic!("{args:?}") };
            assert!(error.contains("unknown flag --word:") && !error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_flag_of_one_call_has_a_short_form_and_no_variable_and_behind_two_dashes_is_no_flag() {
        for args in
            [&["a", "-o", "-"][..], &["a", "--output", "-"], &["--output=-", "--", "a"], &["-o", "-", "--", "-o"]]
        {
            let Ok(Parsed::Args(parsed)) = parse(args, &[("ENJAMBRE_OUTPUT", "x")]) else { panic!("{args:?}") };
            assert_eq!(parsed.value::<String>("--output"), Ok(Some("-".into())), "{args:?}");
            assert_eq!(parsed.operands.len(), 1, "{args:?}");
        }
        let Ok(Parsed::Args(parsed)) = parse(&["a"], &[("ENJAMBRE_OUTPUT", "x")]) else { panic!() };
        assert_eq!(parsed.value::<String>("--output"), Ok(None));
        let Err(error) = parse(&["a", "-o", "x", "-o", "y"], &[]) else { panic!() };
        assert!(error.contains("-o is given twice"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, part) in [
            (&["a", "--wat"][..], "unknown flag --wat"),
            (&[], "<id> is missing"),
            (&["a", "b"], "unexpected `b`"),
            (&["a", "--wait-time"], "--wait-time needs a value"),
            (&["a", "--wait-time", "1", "--wait-time", "2"], "--wait-time is given twice"),
            (&["a", "--wait-time=1", "--wait-time=2"], "--wait-time is given twice"),
            (&["a", "--eager", "--eager"], "--eager is given twice"),
            (&["a", "--eager=1"], "--eager takes no value"),
        ] {
            let Err(error) = parse(args, &[]) else { panic!("{args:?}") };
            assert!(error.contains(part), "{error}");
        }
        let Ok(Parsed::Text(help)) = parse(&["--help"], &[]) else { panic!() };
        assert!(help.contains("[ENJAMBRE_WAIT_TIME]") && help.contains("  ENJAMBRE_WORD "), "{help}");
        assert!(help.contains("Usage: thing <id> [flags]"), "{help}");
    }
}
