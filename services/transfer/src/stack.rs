//! The stack of layers of one image: they are unpacked in any order and committed from the bottom up.

/// Which layers are ready, and which of them may be committed. Pure.
#[derive(Debug)]
pub struct Stack<T> {
    layers: Vec<Option<T>>,
    committed: usize,
}

impl<T> Stack<T> {
    /// A stack of so many layers, the lowest `present` of which are committed already.
    #[must_use]
    pub fn new(layers: usize, present: usize) -> Self {
        Self { layers: (0..layers).map(|_| None).collect(), committed: present.min(layers) }
    }

    /// Takes an unpacked layer. One that is committed already, or is no layer of the stack, is given back.
    pub fn ready(&mut self, position: usize, layer: T) -> Option<T> {
        match self.layers.get_mut(position) {
            Some(place) if position >= self.committed => place.replace(layer),
            _ => Some(layer),
        }
    }

    /// The layers that may be committed now, lowest first; they count as committed from here on.
    pub fn take_next(&mut self) -> Vec<T> {
        let mut batch = Vec::new();
        while let Some(layer) = self.layers.get_mut(self.committed).and_then(Option::take) {
            batch.push(layer);
            self.committed += 1;
        }
        batch
    }

    /// Nothing is left to commit.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.committed == self.layers.len()
    }

    /// What was unpacked and never taken: for cleaning up after a failure.
    pub fn leftovers(&mut self) -> Vec<T> {
        self.layers.iter_mut().filter_map(Option::take).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_from_the_bottom_whatever_comes_first() {
        let mut stack = Stack::new(4, 1);
        assert_eq!(stack.ready(0, "late"), Some("late"), "below what is present");
        assert_eq!(stack.ready(3, "d"), None);
        assert!(stack.take_next().is_empty());
        assert_eq!(stack.ready(1, "b"), None);
        assert_eq!(stack.take_next(), ["b"]);
        assert!(!stack.is_complete());
        assert_eq!(stack.ready(2, "c"), None);
        assert_eq!(stack.take_next(), ["c", "d"]);
        assert!(stack.is_complete());
        assert_eq!(stack.ready(9, "x"), Some("x"));
    }

    #[test]
    fn gives_leftovers_back() {
        let mut stack = Stack::new(3, 0);
        stack.ready(2, 2);
        stack.ready(1, 1);
        assert_eq!(stack.leftovers(), [1, 2]);
    }
}
