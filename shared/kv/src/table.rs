//! A table: its name, with the types of its keys and values.

use std::marker::PhantomData;

use berth_model::Status;
use prost::Message;

use crate::{
    key::{Key, KeyReader},
    txn::{Reader, Txn},
};

/// The rows of one name, with their types. Made as a constant, used with a view or a transaction.
pub struct Table<K, V> {
    name: &'static str,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> std::fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Table").field(&self.name).finish()
    }
}

impl<K: Key, V: Message + Default> Table<K, V> {
    /// The table of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The value of a key.
    pub fn get(&self, from: &impl Reader, key: &K) -> Result<Option<V>, Status> {
        let key = key.to_bytes();
        from.get_raw(self.name, &key)?.map(|value| self.value(&key, &value)).transpose()
    }

    /// Whether there is such a key.
    pub fn contains(&self, from: &impl Reader, key: &K) -> Result<bool, Status> {
        Ok(from.get_raw(self.name, &key.to_bytes())?.is_some())
    }

    /// Sets a value.
    pub fn put(&self, txn: &mut Txn<'_>, key: &K, value: &V) {
        txn.set(self.name, key.to_bytes(), Some(value.encode_to_vec()));
    }

    /// Deletes a key; one that is not there is fine.
    pub fn delete(&self, txn: &mut Txn<'_>, key: &K) {
        txn.set(self.name, key.to_bytes(), None);
    }

    /// Up to `limit` rows whose key begins with `prefix` and is greater than `after`, in key order.
    pub fn scan<P: Key>(
        &self,
        from: &impl Reader,
        prefix: &P,
        after: Option<&K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>, Status> {
        let after = after.map(Key::to_bytes);
        from.scan_raw(self.name, &prefix.to_bytes(), after.as_deref(), limit)?
            .into_iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(&key);
                let decoded = K::decode(&mut reader).and_then(|decoded| reader.end().map(|()| decoded));
                let decoded = decoded.map_err(|status| status.context(format!("table {}", self.name)))?;
                Ok((decoded, self.value(&key, &value)?))
            })
            .collect()
    }

    fn value(&self, key: &[u8], value: &[u8]) -> Result<V, Status> {
        V::decode(value).map_err(|error| {
            Status::data_loss(format!("table {}: the value of {} is damaged: {error}", self.name, key.escape_ascii()))
        })
    }
}
