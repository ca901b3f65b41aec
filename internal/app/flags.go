package app

import "time"

// KafkaFlags say where the log is.
type KafkaFlags struct {
	Brokers    []string `name:"kafka-brokers" group:"stores" default:"127.0.0.1:9092" help:"Kafka brokers to start from, host:port, separated by commas."`
	Topic      string   `name:"topic" group:"stores" default:"trades-inbound" help:"Topic that holds the log of accepted trades."`
	Partitions int      `name:"partitions" group:"stores" default:"12" help:"Partitions of the topic. Fixed when 'tradestore migrate' makes it, the same for every role."`
}

// DatabaseFlags say where PostgreSQL is. It must be the writer: decisions taken on a replica would be wrong.
type DatabaseFlags struct {
	URL string `name:"database-url" group:"stores" placeholder:"postgres://USER:PASSWORD@HOST:5432/NAME" help:"PostgreSQL to store trades in; required. It holds a password: set the environment variable, because everyone on the machine can read flags with 'ps'."`
}

// RequestLogFlags say where clients' requests are tracked.
type RequestStoreFlags struct {
	Kind     string `name:"request-store" group:"stores" default:"postgres" help:"Where requests are tracked from PENDING to their end: postgres or dynamodb; the same for every role."`
	Table    string `name:"dynamodb-table" group:"stores" default:"trade-requests" help:"Table of the request store on DynamoDB."`
	Endpoint string `name:"dynamodb-endpoint" group:"stores" placeholder:"http://HOST:PORT" help:"A DynamoDB outside AWS, like DynamoDB Local; on loopback it needs no credentials. Without it, region and credentials come from the standard AWS chain: AWS_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE, or the role of the machine."`
	Conns    int    `name:"dynamodb-conns" group:"tuning" default:"64" help:"Most connections to DynamoDB; each carries one call, of up to 25 requests, at a time."`
}

// LogFlags say what is logged, and how. Lines go to standard error.
type LogFlags struct {
	Level  string `name:"log-level" group:"reporting" default:"info" help:"Lowest level that is logged: debug, info, warn or error."`
	Format string `name:"log-format" group:"reporting" default:"auto" help:"json, pretty (for people), or auto: pretty on a terminal, else json."`
}

// ProfileFlags say what kind of place this is.
type ProfileFlags struct {
	Profile string `name:"profile" group:"stores" default:"production" help:"production (3 replicas of each partition, 2 of them in sync) or single (one machine, 1 replica)."`
}

// CheckFlags say how often the stores are looked at again, to see that they are still the ones of the start.
type CheckFlags struct {
	Interval time.Duration `name:"check-interval" group:"tuning" default:"30s" help:"Time between two checks that topic and database are still what they have to be; one that fails stops the process."`
}

// PromiseFlags say how long a trade may be under way before it counts as lost. They are the same for every role: a worker
// that is told of shorter times than the servers have could close a request that is then answered 202 (rule R2).
type PromiseFlags struct {
	AcceptDeadline  time.Duration `name:"accept-deadline" group:"tuning" default:"3s" help:"From the arrival of a trade to the latest moment of a 202; later is 503, with the request id to ask for. The same for every role."`
	DeliveryTimeout time.Duration `name:"delivery-timeout" group:"tuning" default:"10s" help:"How long Kafka is tried for one record. The same for every role."`
	OrphanAfter     time.Duration `name:"orphan-after" group:"tuning" default:"60s" help:"How long a worker watches a request stay PENDING before it looks whether the trade ever reached the log; at least twice the sum of --accept-deadline and --delivery-timeout. The same for every role."`
}

// DrainFlags say how long a stop may take. A worker gives a third each to the batch in hand, to the last outcomes and to
// leaving its group.
type DrainFlags struct {
	Timeout time.Duration `name:"drain-timeout" group:"tuning" default:"30s" help:"How long a drain may take, after SIGTERM or SIGINT; what is not done then is cut off."`
}

// FaultFlags say how a process ends when what it relies on does not hold (rule T9).
type FaultFlags struct {
	ExitDelay time.Duration `name:"linger-after-fault" group:"tuning" default:"30s" help:"How long a process that has to stop, because what it relies on does not hold, still shows its metrics, not ready: two scrapes, so that an alert can say why. 0 exits at once, as SIGTERM does."`
}

// ServerConfig holds the settings of the server role.
type ServerConfig struct {
	Listen       string            `name:"listen" group:"network" default:"127.0.0.1:8000" help:"Address of the API, host:port. There is no authentication yet: keep it on loopback or behind something that has it."`
	Kafka        KafkaFlags        `embed:""`
	Database     DatabaseFlags     `embed:""`
	RequestStore RequestStoreFlags `embed:""`
	Profile      ProfileFlags      `embed:""`
	Promise      PromiseFlags      `embed:""`
	Tuning       ServerTuning      `embed:""`
	Check        CheckFlags        `embed:""`
	Drain        DrainFlags        `embed:""`
	Fault        FaultFlags        `embed:""`
	Log          LogFlags          `embed:""`
}

// ServerTuning holds the settings of the server that seldom have to move. A process that runs both roles offers both
// sets, so no flag may be in both. What must hold between them is checked together, by Validate.
type ServerTuning struct {
	OpenTimeout     time.Duration `name:"open-timeout" group:"tuning" default:"2s" help:"Time limit for tracking a batch as PENDING; at most --accept-deadline."`
	LookupTimeout   time.Duration `name:"lookup-timeout" group:"tuning" default:"100ms" help:"Time limit for the early version check of a batch; when it passes, the batch goes on and the worker decides alone."`
	Flushes         int           `name:"flushes" group:"tuning" default:"2" help:"Batches of trades under way to the request store at once, each of its own share of the partitions; no more than these or --request-conns are of use."`
	MaxBatch        int           `name:"max-batch" group:"tuning" default:"512" help:"Most trades in one batch."`
	QueueItems      int           `name:"queue-items" group:"tuning" default:"8192" help:"Most trades between arrival and answer; one more is answered 503 at once."`
	QueueBytes      int           `name:"queue-bytes" group:"tuning" default:"67108864" help:"Most bytes that those trades hold."`
	KeyAttempts     int           `name:"idempotency-attempts" group:"tuning" default:"16" help:"How often one idempotency key may be tried whose earlier tries ended NOT_DELIVERED."`
	BulkItems       int           `name:"bulk-items" group:"tuning" default:"1000" help:"Most trades in one bulk request."`
	BulkBytes       int           `name:"bulk-bytes" group:"http" default:"1048576" help:"Largest body of a bulk request, in bytes; those under way hold --queue-bytes together, beside the trades in the queue."`
	RequestConns    int           `name:"request-conns" group:"tuning" default:"8" help:"Most connections to PostgreSQL for accepting trades and for status reads."`
	ReadConns       int           `name:"read-conns" group:"tuning" default:"8" help:"Most connections to PostgreSQL for trade reads and version checks."`
	StoreTimeout    time.Duration `name:"store-timeout" group:"tuning" default:"2s" help:"Time limit for one read from a store."`
	MaxExports      int           `name:"max-exports" group:"tuning" default:"2" help:"Most exports of trades under way at once; one more is answered 503."`
	ExportTimeout   time.Duration `name:"export-timeout" group:"tuning" default:"10m" help:"Time limit for one export; its connection is cut after it."`
	KafkaLinger     time.Duration `name:"kafka-linger" group:"tuning" default:"0s" help:"How long a record waits for others; batches grow under load without it."`
	Compression     string        `name:"kafka-compression" group:"tuning" default:"none" help:"Of batches of records: none, lz4, snappy, zstd or gzip."`
	MaxWait         time.Duration `name:"max-wait" group:"tuning" default:"30s" help:"Longest that a call may wait for an outcome, whatever it prefers (Prefer: wait=N)."`
	MaxStreams      int           `name:"max-streams" group:"tuning" default:"1024" help:"Most streams of events open at once; one more is answered 503. Each holds a connection and about 40 KiB."`
	MaxWaiters      int           `name:"max-waiters" group:"tuning" default:"4096" help:"Most calls that wait for an outcome at once; one more is answered without waiting. Each holds a connection and about 20 KiB."`
	MaxBodyBytes    int           `name:"max-body-bytes" group:"http" default:"16384" help:"Largest body of a request, in bytes."`
	MaxHeaderBytes  int           `name:"max-header-bytes" group:"http" default:"8192" help:"Largest head of a request, in bytes."`
	ReadTimeout     time.Duration `name:"read-timeout" group:"http" default:"5s" help:"Time limit for reading one request."`
	WriteTimeout    time.Duration `name:"write-timeout" group:"http" default:"5s" help:"Time limit for writing one answer."`
	IdleTimeout     time.Duration `name:"idle-timeout" group:"http" default:"60s" help:"How long a connection may wait for its next request."`
	MaxConns        int           `name:"max-conns" group:"http" default:"8192" help:"Most open connections."`
	MaxConnsPerAddr int           `name:"max-conns-per-addr" group:"http" default:"2048" help:"Most open connections from one address (IPv6: one /64 network)."`
	DrainDelay      time.Duration `name:"drain-delay" group:"tuning" default:"0s" help:"How long a drain goes on serving as not ready, so that a load balancer looks away first."`
}

// WorkerConfig holds the settings of the worker role.
type WorkerConfig struct {
	Listen       string            `name:"listen" group:"network" default:"127.0.0.1:8001" help:"Address of /livez, /readyz and /metrics, host:port."`
	Kafka        KafkaFlags        `embed:""`
	Database     DatabaseFlags     `embed:""`
	RequestStore RequestStoreFlags `embed:""`
	Profile      ProfileFlags      `embed:""`
	Promise      PromiseFlags      `embed:""`
	Tuning       WorkerTuning      `embed:""`
	Check        CheckFlags        `embed:""`
	Drain        DrainFlags        `embed:""`
	Fault        FaultFlags        `embed:""`
	Log          LogFlags          `embed:""`
}

// WorkerTuning holds the settings of the worker that seldom have to move. A process that runs both roles offers both
// sets, so no flag may be in both. What must hold between them is checked together, by Validate.
type WorkerTuning struct {
	Group               string        `name:"kafka-group" group:"stores" default:"tradestore-workers" help:"Consumer group of the workers; those in one group share the partitions."`
	SessionTimeout      time.Duration `name:"kafka-session-timeout" group:"tuning" default:"45s" help:"How long a worker may be silent before the group takes its partitions away."`
	RebalanceTimeout    time.Duration `name:"kafka-rebalance-timeout" group:"tuning" default:"60s" help:"How long workers have to give up partitions; more than --transaction-limit."`
	Lanes               int           `name:"lanes" group:"tuning" default:"2" help:"Loops that apply at once, each with a share of the partitions and a connection of its own."`
	ApplyConns          int           `name:"apply-conns" group:"tuning" default:"0" help:"Most connections to PostgreSQL for applying and projection; 0 takes one for each lane and two more."`
	MaintainerConns     int           `name:"maintainer-conns" group:"tuning" default:"2" help:"Most connections to PostgreSQL for the days of the journal, and for finding requests that stay PENDING."`
	MaxPollRecords      int           `name:"max-poll-records" group:"tuning" default:"10000" help:"Most records in one transaction."`
	ApplyPause          time.Duration `name:"apply-pause" group:"tuning" default:"20ms" help:"Between the starts of two transactions of a lane at least, while fewer than 1,000 records wait: fewer and larger ones leave more of the disk to the servers. 0 applies at once."`
	TransactionLimit    time.Duration `name:"transaction-limit" group:"tuning" default:"20s" help:"Time limit for one transaction."`
	MaxRefused          int           `name:"max-refused" group:"tuning" default:"100" help:"Records in a row that PostgreSQL may refuse before the worker stops: then the schema is wrong, not the data."`
	ProjectInterval     time.Duration `name:"project-interval" group:"tuning" default:"1s" help:"Longest time between two looks for outcomes that clients are to be shown."`
	OrphanInterval      time.Duration `name:"orphan-interval" group:"tuning" default:"10s" help:"Time between two looks for requests that stay PENDING."`
	SweepInterval       time.Duration `name:"sweep-interval" group:"tuning" default:"1h" help:"Time between two deletions of what is past its retention."`
	OutcomeRetention    time.Duration `name:"outcome-retention" group:"tuning" default:"168h" help:"How long outcomes can be asked for; longer than the topic keeps records, or a late duplicate is taken for new."`
	DeadLetterRetention time.Duration `name:"dead-letter-retention" group:"tuning" default:"720h" help:"How long records that could not be stored are kept for inspection."`
}

// MigrateConfig holds the settings of the migrate command.
type MigrateConfig struct {
	Kafka          KafkaFlags        `embed:""`
	Database       DatabaseFlags     `embed:""`
	RequestStore   RequestStoreFlags `embed:""`
	Profile        ProfileFlags      `embed:""`
	Log            LogFlags          `embed:""`
	TopicRetention time.Duration     `name:"topic-retention" group:"tuning" default:"72h" help:"How long the topic keeps a record, when it is made here; 0 leaves it to the broker."`
	Wait           time.Duration     `name:"wait" group:"tuning" default:"60s" help:"How long to wait for each store to answer."`
	NewGeneration  bool              `name:"new-generation" env:"-" help:"Move to another topic, the one of --topic, with as many partitions or more. Stop the servers and let the workers finish before; nothing is changed if something is left to do."`
	AcceptDeadline time.Duration     `name:"accept-deadline" group:"tuning" default:"3s" help:"From the arrival of a trade to the latest moment of a 202; --new-generation waits as long for servers that it can't see. The same for every role."`
}

// CheckConfig holds the settings of the check command.
type CheckConfig struct {
	Kafka            KafkaFlags        `embed:""`
	Database         DatabaseFlags     `embed:""`
	RequestStore     RequestStoreFlags `embed:""`
	Profile          ProfileFlags      `embed:""`
	OutcomeRetention time.Duration     `name:"outcome-retention" group:"tuning" default:"168h" help:"How long the workers keep outcomes; longer than the topic keeps records."`
	Timeout          time.Duration     `name:"timeout" group:"tuning" default:"5s" help:"Time limit for all checks; what has not been told then is unknown."`
}
