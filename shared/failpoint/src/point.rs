//! The points there are. One list, so that a test can go through all of them.

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal $kind:ident,)*) => {
        /// A place where the program may be made to fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Point {
            /// All of them, in the order in which a pull comes to them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in an order.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Whether it is a step of the disk, which may also fail. At the others the process can only die.
            #[must_use]
            pub fn may_fail(self) -> bool {
                match self {
                    $(Self::$name => points!(@$kind),)*
                }
            }
        }
    };
    (@step) => { true };
    (@place) => { false };
}

points! {
    /// The lease of a pull stands, nothing else does.
    TransferLeased = "transfer.leased" place,
    /// Bytes of a blob are to be written to its ingest.
    BlobWrite = "blob.write" step,
    /// The content store is to make a directory.
    ContentMakeDir = "content.make-dir" step,
    /// The content store is to make an empty file.
    ContentCreate = "content.create" step,
    /// The content store is to write a small file.
    ContentWrite = "content.write" step,
    /// The content store is to copy a file.
    ContentCopy = "content.copy" step,
    /// The content store is to flush a file.
    ContentFlush = "content.flush" step,
    /// The content store is to flush a directory.
    ContentFlushDir = "content.flush-dir" step,
    /// The content store is to change a file's mode.
    ContentSetMode = "content.set-mode" step,
    /// The content store is to rename a file.
    ContentRename = "content.rename" step,
    /// The content store is to remove a file.
    ContentRemoveFile = "content.remove-file" step,
    /// The content store is to remove a directory.
    ContentRemoveTree = "content.remove-tree" step,
    /// A blob's bytes are flushed, it has no name yet.
    ContentFlushed = "content.flushed" place,
    /// A blob has its name, which is not flushed.
    ContentNamed = "content.named" place,
    /// A blob's name is flushed, it has no record.
    ContentPublished = "content.published" place,
    /// A blob has its record, nobody was told.
    ContentRecorded = "content.recorded" place,
    /// A blob's file was deleted, its record is there.
    ContentDeleted = "content.deleted" place,
    /// A batch is to be written to a store's log.
    KvWrite = "kv.write" step,
    /// A batch is in the log, which is not flushed.
    KvWritten = "kv.written" place,
    /// A store's log is to be flushed.
    KvFlush = "kv.flush" step,
    /// The log is flushed, nobody was told.
    KvFlushed = "kv.flushed" place,
    /// A change of names is decided, nothing of it written.
    MetadataDecided = "metadata.decided" place,
    /// A change of names is on disk, nobody was told.
    MetadataChanged = "metadata.changed" place,
    /// A snapshot has its record, and no directories.
    SnapshotPrepared = "snapshot.prepared" place,
    /// One of a snapshot's directories is to be made.
    SnapshotMakeDir = "snapshot.make-dir" step,
    /// A snapshot has its directories, nobody was told.
    SnapshotMade = "snapshot.made" place,
    /// The next entry of a layer is to be made.
    UnpackEntry = "unpack.entry" step,
    /// A layer's bytes are to be written to one of its files.
    UnpackWrite = "unpack.write" step,
    /// A layer's tree is whole, and nothing says so.
    UnpackApplied = "unpack.applied" place,
    /// That a layer's tree is whole is to be written down.
    UnpackKeep = "unpack.keep" step,
    /// That a layer's tree is whole was written down.
    UnpackKept = "unpack.kept" place,
    /// A layer is to be settled over those below.
    UnpackSettle = "unpack.settle" step,
    /// The snapshots' file system is to be flushed.
    SnapshotFlush = "snapshot.flush" step,
    /// The snapshots' file system is flushed, no record says that they are committed.
    SnapshotFlushed = "snapshot.flushed" place,
    /// The next of some layers is to be committed.
    UnpackCommit = "unpack.commit" place,
    /// A layer is committed, what was kept beside it is still there.
    UnpackCommitted = "unpack.committed" place,
    /// A snapshot has lost its record, and has its directories.
    SnapshotForgotten = "snapshot.forgotten" place,
    /// A snapshot's directory is to be put aside.
    SnapshotPutAside = "snapshot.put-aside" step,
    /// A snapshot's directory was put aside and is to be erased.
    SnapshotErase = "snapshot.erase" step,
    /// All of a pull is there, it has no content records.
    TransferRecording = "transfer.recording" place,
    /// A pull has its content records, no image record.
    TransferRecorded = "transfer.recorded" place,
    /// A pull has its image record, its lease stands.
    TransferNamed = "transfer.named" place,
    /// The lease of a pull has ended, nobody was told.
    TransferEnded = "transfer.ended" place,
}
