//! Reading a filter. What it says of a mistake has the place, in characters from the beginning.

use std::{iter::Peekable, str::CharIndices};

use regex::RegexBuilder;

use super::{Filter, Selector, Test};
use crate::Status;

/// Longest filter; it comes from a request.
const MAX_BYTES: usize = 16 * 1024;
const ESCAPE: &str = "one of Go's escapes";
/// What a compiled expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Reads one filter. Empty text is one that always holds.
pub(super) fn filter(text: &str) -> Result<Filter, Status> {
    if text.len() > MAX_BYTES {
        return Err(Status::invalid_argument(format!(
            "a filter of {} bytes is too long, at most {MAX_BYTES} are read",
            text.len()
        )));
    }
    let mut reader = Reader { text, rest: text.char_indices().peekable() };
    let mut all = Vec::new();
    reader.skip_blanks();
    if reader.peek().is_none() {
        return Ok(Filter { all });
    }
    loop {
        reader.skip_blanks();
        all.push(reader.selector()?);
        reader.skip_blanks();
        match reader.rest.next_if(|(_, found)| *found == ',') {
            Some(_) => {}
            None if reader.peek().is_none() => return Ok(Filter { all }),
            None => return Err(reader.wrong("a comma or the end")),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, found)| *found)
    }

    fn skip_blanks(&mut self) {
        while self.rest.next_if(|(_, found)| found.is_whitespace()).is_some() {}
    }

    /// What was wanted where we are.
    fn wrong(&mut self, wanted: &str) -> Status {
        let at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        let place = self.text.get(..at).map_or(0, |before| before.chars().count());
        let text: String = self.text.chars().take(200).collect();
        Status::invalid_argument(format!("filter {text:?}: {wanted} is expected at character {place}"))
    }

    fn selector(&mut self) -> Result<Selector, Status> {
        let mut path = vec![self.field()?];
        loop {
            self.skip_blanks();
            if self.rest.next_if(|(_, found)| *found == '.').is_none() {
                break;
            }
            self.skip_blanks();
            path.push(self.field()?);
        }
        if matches!(self.peek(), None | Some(',')) {
            return Ok(Selector { path, test: Test::Present });
        }
        let test = match self.operator()?.as_str() {
            "==" => Test::Equal(self.value(false)?),
            "!=" => Test::NotEqual(self.value(false)?),
            _ => {
                let value = self.value(true)?;
                let compiled = RegexBuilder::new(&value).size_limit(MAX_REGEX_BYTES).build();
                Test::Matches(compiled.map_err(|error| {
                    Status::invalid_argument(format!("filter: {value:?} is no regular expression: {error}"))
                })?)
            }
        };
        Ok(Selector { path, test })
    }

    fn field(&mut self) -> Result<String, Status> {
        match self.peek() {
            Some('"') => self.quoted('"'),
            Some(first) if is_field(first) => Ok(self.take_while(is_field)),
            _ => Err(self.wrong("a field")),
        }
    }

    fn operator(&mut self) -> Result<String, Status> {
        let here = self.rest.clone();
        let operator = self.take_while(|found| matches!(found, '=' | '!' | '~'));
        if ["==", "!=", "~="].contains(&operator.as_str()) {
            return Ok(operator);
        }
        self.rest = here;
        Err(self.wrong("one of ==, != and ~="))
    }

    fn value(&mut self, is_regex: bool) -> Result<String, Status> {
        self.skip_blanks();
        match self.peek() {
            Some('"') => self.quoted('"'),
            Some(quote @ ('/' | '|')) if is_regex => self.quoted(quote),
            None | Some(',' | '.' | '=' | '!' | '~' | '/' | '|') => Err(self.wrong("a value, or one in quotes,")),
            Some(_) => Ok(self.take_while(|found| found != ',' && !found.is_whitespace())),
        }
    }

    fn take_while(&mut self, part: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some((_, found)) = self.rest.next_if(|(_, found)| part(*found)) {
            taken.push(found);
        }
        taken
    }

    fn quoted(&mut self, quote: char) -> Result<String, Status> {
        let begin = self.rest.clone();
        self.rest.next();
        let mut bytes = Vec::new();
        loop {
            match self.rest.next() {
                Some((_, found)) if found == quote => break,
                Some((_, '\\')) => self.escape(quote, &mut bytes)?,
                Some((_, found)) if found != '\n' => push(&mut bytes, found),
                _ => {
                    self.rest = begin;
                    return Err(self.wrong("a text with its end quote"));
                }
            }
        }
        String::from_utf8(bytes).map_err(|_not_utf8| {
            self.rest = begin;
            self.wrong("text in UTF-8")
        })
    }

    /// What is after a backslash: Go's escapes (the Go specification, rune literals).
    fn escape(&mut self, quote: char, into: &mut Vec<u8>) -> Result<(), Status> {
        if self.peek().is_some_and(|found| found.is_digit(8)) {
            return self.byte(3, 8, into);
        }
        let Some((_, found)) = self.rest.next() else { return Err(self.wrong(ESCAPE)) };
        let meant = match found {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\\' => '\\',
            same if same == quote => same,
            'x' => return self.byte(2, 16, into),
            'u' => self.scalar(4)?,
            'U' => self.scalar(8)?,
            _ => return Err(self.wrong(ESCAPE)),
        };
        push(into, meant);
        Ok(())
    }

    fn byte(&mut self, digits: usize, radix: u32, into: &mut Vec<u8>) -> Result<(), Status> {
        let number = self.number(digits, radix).and_then(|number| u8::try_from(number).ok());
        into.push(number.ok_or_else(|| self.wrong(ESCAPE))?);
        Ok(())
    }

    fn scalar(&mut self, digits: usize) -> Result<char, Status> {
        self.number(digits, 16).and_then(char::from_u32).ok_or_else(|| self.wrong(ESCAPE))
    }

    fn number(&mut self, digits: usize, radix: u32) -> Option<u32> {
        (0..digits).try_fold(0_u32, |number, _| {
            let digit = self.rest.next_if(|(_, found)| found.is_digit(radix))?.1.to_digit(radix)?;
            number.checked_mul(radix)?.checked_add(digit)
        })
    }
}

fn is_field(found: char) -> bool {
    found.is_ascii_alphanumeric() || matches!(found, '_' | '-')
}

fn push(into: &mut Vec<u8>, found: char) {
    into.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Code;

    #[test]
    fn mistakes_are_refused_with_their_place() {
        for (text, place) in [
            (",", 0),
            ("a,", 2),
            ("a b", 2),
            ("a.", 2),
            (".a", 0),
            ("a=b", 1),
            ("a===b", 1),
            ("a==", 3),
            ("a==,b", 3),
            ("a==/b/", 3),
            ("a~=/b", 3),
            ("a==\"b", 3),
            ("a==\"\\q\"", 6),
            ("a==\"\\x4\"", 7),
            ("a==\"\\u12\"", 8),
            ("a==\"\\xff\"", 3),
            ("a==\"\\400\"", 8),
            ("é", 0),
            ("==b", 0),
        ] {
            let status = filter(text).unwrap_err();
            assert_eq!(status.code, Code::InvalidArgument, "{text}");
            assert!(status.message.ends_with(&format!("at character {place}")), "{text}: {status}");
        }
        assert!(filter("a~=(").unwrap_err().message.contains("regular expression"));
        assert!(filter("a~=x{1000}{1000}{1000}").is_err(), "what compiles to too much is refused");
        assert!(filter(&"a".repeat(MAX_BYTES + 1)).unwrap_err().message.contains("too long"));
    }

    fn value_of(text: &str) -> String {
        match filter(text).unwrap().all.remove(0).test {
            Test::Equal(value) => value,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            drop(filter(&text));
        }

        #[test]
        fn filters_of_their_own_letters_are_read_or_refused(text in "[a-b.,=~!/|\"\\\\x0-9 ]{0,20}") {
            drop(filter(&text));
        }

        /// Escaped as Go does it, every value comes back.
        #[test]
        fn quoted_values_come_back(value in any::<String>(), style in 0..3_u8) {
            let quoted: String = value
                .chars()
                .map(|found| match (style, found) {
                    (_, '"' | '\\') => format!("\\{found}"),
                    (_, '\n') => "\\n".to_owned(),
                    (0, found) => found.to_string(),
                    (1, found) => format!("\\U{:08x}", u32::from(found)),
                    (_, found) => found.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
                })
                .collect();
            prop_assert_eq!(value_of(&format!("a==\"{quoted}\"")), value);
        }

        #[test]
        fn words_come_back(value in "[a-z0-9:@%][a-z0-9:./@~=!%-]{0,30}") {
            prop_assert_eq!(value_of(&format!("labels.x-y==  {value}")), value);
        }
    }
}
