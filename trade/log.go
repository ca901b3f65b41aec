package trade

import "time"

// TopicID is the id that Kafka gives a topic when it is created. A topic that was deleted and created again under the
// same name has another id (KIP-516).
type TopicID [16]byte

// Position is how far one partition has been applied: the next offset to read, as committed with the data.
type Position struct {
	TopicID     TopicID
	Generation  int32
	Partition   int32
	NextOffset  int64
	LeaderEpoch int32 // of the last applied record; -1 before the first
}

// Record is one record of the log, read and decoded.
type Record struct {
	Request        // with a zero ID if the headers name no request: then Fault says so, and nobody gets an outcome
	Offset  int64  // in Partition
	Value   []byte // the bytes in the log, kept for a dead letter
	Fault   string // why the record can't be stored (INVALID_RECORD); empty for a good one
}

// Span is the part of one partition that a batch covers. Offsets may have holes, so it is given by positions.
type Span struct {
	Partition   int32
	From        int64 // the position this worker loaded or last committed, whatever the first record's offset is
	Next        int64 // the position after the batch
	LeaderEpoch int32 // of the last record
}

// Batch is what one transaction applies: some partitions of one topic, each from its position on.
type Batch struct {
	TopicID    TopicID
	Generation int32
	Spans      []Span   // ascending by partition, each partition once
	Records    []Record // by partition, then offset
}

// Applied counts what a committed batch did.
type Applied struct {
	Rows        int // inserted or replaced
	Stale       int // ended FAILED(STALE_VERSION)
	Invalid     int // ended FAILED(INVALID_RECORD), or became a dead letter without a request id
	Duplicates  int // had been decided before and were dropped
	DeadLetters int
}

// Retention is how long outcomes and dead letters are kept.
type Retention struct {
	Outcomes    time.Duration // journal days and, with them, the PENDING rows of decided requests
	DeadLetters time.Duration
}

// Swept counts what a sweep deleted.
type Swept struct {
	JournalDays int // days of the journal dropped whole, with their request rows
	PendingRows int // request rows deleted one by one, from the default partition
	JournalRows int // journal rows deleted one by one, from the default partition
	DeadLetters int
}
