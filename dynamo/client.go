// Package dynamo is the request store on DynamoDB: one item per request, from PENDING to its end.
//
// DynamoDB keeps no promise about when a request that got no answer takes effect, so everything here rests on two rules.
// A PENDING item is put once, under a fresh id, and never again when the answer is missing: a late copy could undo a
// terminal state (rule C3). The put of a request under an idempotency key may be repeated, because it is conditional on
// there being no item (rule K1). And every later write carries the condition that the item is there and still PENDING: a
// late copy of it finds nothing to change (rule S1).
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

// Config says which table holds the requests and how it is reached. Region and credentials come from the standard AWS
// chain: environment, shared files, and the role of the container or the machine.
type Config struct {
	Table     string           // name of the table; required
	Endpoint  string           // URL of a DynamoDB that is not AWS's own; empty leaves it to the AWS chain
	Life      time.Duration    // how long a request can be asked for after it was decided; default 7 days
	Conns     int              // most connections; default 64
	Calls     int              // most calls under way for one batch; default 16
	CallLimit time.Duration    // of one call that may be repeated; default 2 s
	Now       func() time.Time // tells which items have expired; default time.Now
}

// Validate lists every mistake in the settings, one per line, each with its flag; nil if there is none.
func (c Config) Validate() error {
	var table, endpoint error
	if !tableName.MatchString(c.Table) { // it becomes a part of statements, too
		table = errors.New("--dynamodb-table: not the name of a table: 3 to 255 of A-Z a-z 0-9 . _ -")
	}
	u, err := url.Parse(c.Endpoint)
	if c.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil) {
		endpoint = errors.New("--dynamodb-endpoint: not a URL like http://127.0.0.1:8002")
	}
	return errors.Join(table, endpoint)
}

var tableName = regexp.MustCompile(`^[A-Za-z0-9._-]{3,255}$`)

// RequestLog is the request store on DynamoDB. Its methods may be called concurrently.
type RequestStore struct {
	cfg       Config
	client    *dynamodb.Client
	transport *transport
	retryer   aws.Retryer // of reads
	metrics   *metrics
	log       zerolog.Logger
}

// Open makes a RequestLog and asks DynamoDB nothing: a table that can't be reached now delays no start. Errors: a
// setting that can't be used, here, in the environment or in the shared AWS files.
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
	l := &RequestStore{cfg: cfg, client: client, transport: connections, metrics: newMetrics(), log: log}
	l.retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = longestPause })
	if err := l.metrics.Register(reg, "the request store"); err != nil {
		return nil, err
	}
	return l, nil
}

// Close ends the connections. Nothing may be called after it.
func (l *RequestStore) Close() { l.transport.close() }

// newClient makes a client that repeats nothing by itself. Calls that may be repeated say so (see again).
func newClient(ctx context.Context, cfg Config, connections *transport, log zerolog.Logger) (*dynamodb.Client, error) {
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
		log.Debug().Msgf("AWS client: "+format, v...) // what matters of it comes back as an error
	}))}
	if cfg.Endpoint != "" {
		load = append(load, config.WithDefaultRegion("us-east-1")) // only signs; an endpoint has no regions
	}
	if onLoopback(cfg.Endpoint) && !credentialsInEnvironment() {
		// DynamoDB Local takes any. Asking the whole chain would look for a machine role first, and take seconds.
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("local", "local", "")))
	}
	chain, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the AWS settings of the environment: %w", err)
	}
	if chain.Region == "" {
		return nil, errors.New("the request store on DynamoDB needs a region: set AWS_REGION, or --dynamodb-endpoint for one outside AWS")
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
	return err == nil && (env.Credentials.HasKeys() || env.SharedConfigProfile != "" || env.WebIdentityTokenFilePath != "" ||
		env.ContainerCredentialsRelativePath != "" || env.ContainerCredentialsEndpoint != "")
}

// again lets the client repeat a call that changes nothing, a few times, all callers together within a quota.
func (l *RequestStore) again(o *dynamodb.Options) { o.Retryer = l.retryer }

// call sends one call and counts it.
func call[In, Out any](ctx context.Context, l *RequestStore, op string, in *In,
	send func(context.Context, *In, ...func(*dynamodb.Options)) (*Out, error), options ...func(*dynamodb.Options),
) (*Out, error) {
	start := time.Now()
	out, err := send(ctx, in, options...)
	l.metrics.observe(op, resultOf(err), time.Since(start))
	return out, err
}
