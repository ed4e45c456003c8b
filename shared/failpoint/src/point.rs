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

            /// What can happen there.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }
        }
    };
}

/// What can happen at a point. At each of them the process can die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Between two steps.
    Place,
    /// A step of the disk, which may fail.
    Step,
    /// A step that makes durable what was written: it may fail, and it may be left out.
    Flush,
}

points! {
    /// The lease of a pull stands, nothing else does.
    TransferLeased = "transfer.leased" Place,
    /// Bytes of a blob are to be written to its ingest.
    BlobWrite = "blob.write" Step,
    /// The content store is to make a directory.
    ContentMakeDir = "content.make-dir" Step,
    /// The content store is to make an empty file.
    ContentCreate = "content.create" Step,
    /// The content store is to write a small file.
    ContentWrite = "content.write" Step,
    /// The content store is to copy a file.
    ContentCopy = "content.copy" Step,
    /// The content store is to flush a file.
    ContentFlush = "content.flush" Flush,
    /// The content store is to flush a directory.
    ContentFlushDir = "content.flush-dir" Flush,
    /// The content store is to change a file's mode.
    ContentSetMode = "content.set-mode" Step,
    /// The content store is to rename a file.
    ContentRename = "content.rename" Step,
    /// The content store is to remove a file.
    ContentRemoveFile = "content.remove-file" Step,
    /// The content store is to remove a directory.
    ContentRemoveTree = "content.remove-tree" Step,
    /// A blob's bytes are flushed, it has no name yet.
    ContentFlushed = "content.flushed" Place,
    /// A blob has its name, which is not flushed.
    ContentNamed = "content.named" Place,
    /// A blob's name is flushed, it has no record.
    ContentPublished = "content.published" Place,
    /// A blob has its record, nobody was told.
    ContentRecorded = "content.recorded" Place,
    /// A blob's file was deleted, its record is there.
    ContentDeleted = "content.deleted" Place,
    /// A batch is to be written to a store's log.
    KvWrite = "kv.write" Step,
    /// A batch is in the log, which is not flushed.
    KvWritten = "kv.written" Place,
    /// A store's log is to be flushed.
    KvFlush = "kv.flush" Flush,
    /// The log is flushed, nobody was told.
    KvFlushed = "kv.flushed" Place,
    /// A change of names is decided, nothing of it written.
    MetadataDecided = "metadata.decided" Place,
    /// A change of names is on disk, nobody was told.
    MetadataChanged = "metadata.changed" Place,
    /// A snapshot has its record, and no directories.
    SnapshotPrepared = "snapshot.prepared" Place,
    /// One of a snapshot's directories is to be made.
    SnapshotMakeDir = "snapshot.make-dir" Step,
    /// A snapshot's directories are made, under another name.
    SnapshotFilled = "snapshot.filled" Place,
    /// A snapshot has its directories, nobody was told.
    SnapshotMade = "snapshot.made" Place,
    /// The next entry of a layer is to be made.
    UnpackEntry = "unpack.entry" Step,
    /// A layer's bytes are to be written to one of its files.
    UnpackWrite = "unpack.write" Step,
    /// A layer's tree is whole, and nothing says so.
    UnpackApplied = "unpack.applied" Place,
    /// That a layer's tree is whole is to be written down.
    UnpackKeep = "unpack.keep" Step,
    /// That a layer's tree is whole was written down.
    UnpackKept = "unpack.kept" Place,
    /// A layer is to be settled over those below.
    UnpackSettle = "unpack.settle" Step,
    /// The snapshots' file system is to be flushed.
    SnapshotFlush = "snapshot.flush" Flush,
    /// The snapshots' file system is flushed, no record says that they are committed.
    SnapshotFlushed = "snapshot.flushed" Place,
    /// The next of some layers is to be committed.
    UnpackCommit = "unpack.commit" Place,
    /// A layer is committed, what was kept beside it is still there.
    UnpackCommitted = "unpack.committed" Place,
    /// A snapshot has lost its record, and has its directories.
    SnapshotForgotten = "snapshot.forgotten" Place,
    /// A snapshot's directory is to be put aside.
    SnapshotPutAside = "snapshot.put-aside" Step,
    /// A snapshot's directory was put aside and is to be erased.
    SnapshotErase = "snapshot.erase" Step,
    /// All of a pull is there, it has no content records.
    TransferRecording = "transfer.recording" Place,
    /// A pull has its content records, no image record.
    TransferRecorded = "transfer.recorded" Place,
    /// A pull has its image record, its lease stands.
    TransferNamed = "transfer.named" Place,
    /// The lease of a pull has ended, nobody was told.
    TransferEnded = "transfer.ended" Place,
}
