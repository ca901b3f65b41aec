// Package dynamo is the request store on DynamoDB: one item per request, from PENDING to its terminal state.
//
// A call to DynamoDB without an answer may take effect later, at any time. Two rules follow. A PENDING item is put
// once, under a fresh id, and is not put again without an answer: a late copy could undo a terminal state (rule C3).
// The put of a request under an idempotency key may be repeated, because its condition is that there is no item (rule
// K1). Every later write has the condition that the item exists and is PENDING, so a late copy changes nothing (rule
// S1).
package dynamo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/logging"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Defaults of Config.
const (
	defaultLife  = 7 * 24 * time.Hour
	defaultConns = 64
	defaultCalls = 16
	defaultLimit = 2 * time.Second
)

// Config says which table holds the requests and how to reach it. Region and credentials come from the standard AWS
// chain: environment, shared files, and the role of the container or the machine.
type Config struct {
	Table     string           // name of the table; required
	Endpoint  string           // URL of a DynamoDB outside AWS; empty means the endpoint of the AWS chain
	Life      time.Duration    // how long a request is kept after its decision; default 7 days
	Conns     int              // upper limit of connections; default 64
	Calls     int              // upper limit of concurrent calls of one batch; default 16
	CallLimit time.Duration    // time limit of one call that may be repeated; default 2 s
	Now       func() time.Time // tells which items have expired; default time.Now
}

// Validate returns every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c Config) Validate() error {
	var table, endpoint error
	if !tableName.MatchString(c.Table) { // the name becomes a part of statements
		table = errors.New("--dynamodb-table: not the name of a table: 3 to 255 of A-Z a-z 0-9 . _ -")
	}
	u, err := url.Parse(c.Endpoint)
	if c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil) {
		endpoint = errors.New("--dynamodb-endpoint: not a URL like http://127.0.0.1:8002")
	}
	return errors.Join(table, endpoint)
}

var tableName = regexp.MustCompile(`^[A-Za-z0-9._-]{3,255}$`)

// RequestStore is the request store on DynamoDB. Its methods may be called concurrently.
type RequestStore struct {
	cfg       Config
	client    *dynamodb.Client
	transport *transport
	retryer   aws.Retryer // of reads
	metrics   *metrics
	log       zerolog.Logger
}

// Open returns a RequestStore. It does not call DynamoDB, so a table that is down delays no start. Errors: an invalid
// setting, in cfg, in the environment or in the shared AWS files.
func Open(ctx context.Context, cfg Config, reg prometheus.Registerer, log zerolog.Logger) (*RequestStore, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Life = cmp.Or(cfg.Life, defaultLife)
	cfg.Conns = cmp.Or(cfg.Conns, defaultConns)
	cfg.Calls = cmp.Or(cfg.Calls, defaultCalls)
	cfg.CallLimit = cmp.Or(cfg.CallLimit, defaultLimit)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	connections := newTransport(cfg.Conns)
	client, err := newClient(ctx, cfg, connections, log)
	if err != nil {
		return nil, err
	}
	s := &RequestStore{cfg: cfg, client: client, transport: connections, metrics: newMetrics(), log: log}
	s.retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = longestPause })
	if err := s.metrics.Register(reg, "the request store"); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the connections. No method may be called after it.
func (s *RequestStore) Close() { s.transport.close() }

// newClient returns a client that repeats no call by itself. Calls that may be repeated get the option retry.
func newClient(ctx context.Context, cfg Config, connections *transport, log zerolog.Logger) (*dynamodb.Client, error) {
	logf := func(_ logging.Classification, format string, v ...any) {
		log.Debug().Msgf("AWS client: "+format, v...) // failures come back as errors as well
	}
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.LoggerFunc(logf))}
	if cfg.Endpoint != "" {
		load = append(load, config.WithDefaultRegion("us-east-1")) // used in signatures only; such an endpoint has no regions
	}
	if onLoopback(cfg.Endpoint) && !credentialsInEnvironment() {
		// DynamoDB Local accepts any credentials. The AWS chain would look for a machine role first, which takes seconds.
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("local", "local", "")))
	}
	chain, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the AWS settings of the environment: %w", err)
	}
	if chain.Region == "" {
		return nil, errors.New("the request store on DynamoDB needs a region: " +
			"set AWS_REGION, or --dynamodb-endpoint for one outside AWS")
	}
	return dynamodb.NewFromConfig(chain, func(o *dynamodb.Options) {
		if cfg.Endpoint != "" {
			o.BaseEndpoint = aws.String(cfg.Endpoint)
		}
		o.HTTPClient = connections
		o.Retryer = aws.NopRetryer{}
	}), nil
}

// onLoopback says whether an endpoint is on this machine.
func onLoopback(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

func credentialsInEnvironment() bool {
	env, err := config.NewEnvConfig()
	return err == nil && (env.Credentials.HasKeys() || env.SharedConfigProfile != "" ||
		env.WebIdentityTokenFilePath != "" ||
		env.ContainerCredentialsRelativePath != "" || env.ContainerCredentialsEndpoint != "")
}

// retry lets the client repeat a call that changes nothing, a few times. All callers share a quota of repeats.
func (s *RequestStore) retry(o *dynamodb.Options) { o.Retryer = s.retryer }

// call makes one call and counts it.
func call[In, Out any](ctx context.Context, s *RequestStore, op string, in *In,
	send func(context.Context, *In, ...func(*dynamodb.Options)) (*Out, error), options ...func(*dynamodb.Options),
) (*Out, error) {
	start := time.Now()
	out, err := send(ctx, in, options...)
	s.metrics.observe(op, resultOf(err), time.Since(start))
	return out, err
}
