//! One thing that is there or not, and the changes that were tried: what may be so now.
//!
//! A change that was acknowledged took effect between its begin and its end. One whose end nobody heard of may have taken
//! effect in that time, or not. So a state is possible if some change to it, or the state before, can have been the last.

/// A change that was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// When it was asked for, and when it had ended: ticks of one clock.
    pub(super) begin: u64,
    pub(super) end: u64,
    /// There, or gone.
    pub(super) to: bool,
    /// It was acknowledged.
    pub(super) sure: bool,
}

/// A thing, and what was done to it since it was last looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    pub(super) before: bool,
    pub(super) changes: Vec<Change>,
}

impl Register {
    /// Whether it may be there (`true`) or gone.
    pub(super) fn may_be(&self, state: bool) -> bool {
        let undone_after =
            |end: u64| self.changes.iter().any(|other| other.sure && other.to != state && other.begin > end);
        let untouched = self.before == state && !self.changes.iter().any(|other| other.sure && other.to != state);
        untouched || self.changes.iter().any(|change| change.to == state && !undone_after(change.end))
    }

    /// It was looked at.
    pub(super) fn settle(&mut self, state: bool) {
        self.before = state;
        self.changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(begin: u64, end: u64, to: bool, sure: bool) -> Change {
        Change { begin, end, to, sure }
    }

    #[test]
    fn what_may_be() {
        let (sure_put, sure_removal) = (change(1, 2, true, true), change(3, 4, false, true));
        let cases: [(&str, bool, Vec<Change>, bool, bool); 7] = [
            ("nothing done", true, vec![], true, false),
            ("acknowledged", false, vec![sure_put], true, false),
            ("cut off", false, vec![change(1, 2, true, false)], true, true),
            ("put, then removed", false, vec![sure_put, sure_removal], false, true),
            ("at the same time", false, vec![change(1, 4, true, true), change(2, 3, false, true)], true, true),
            ("removed, then cut off", true, vec![change(1, 2, false, true), change(3, 4, true, false)], true, true),
            ("cut off, then removed", true, vec![change(1, 2, true, false), sure_removal], false, true),
        ];
        for (name, before, changes, there, gone) in cases {
            let register = Register { before, changes };
            assert_eq!((register.may_be(true), register.may_be(false)), (there, gone), "{name}");
        }
    }
}
