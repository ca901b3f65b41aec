package loadtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"
)

// Config holds the settings of a run.
type Config struct {
	Target       string   `name:"target" group:"network" placeholder:"http://HOST:8000" help:"Server or load balancer to test. Without it, this program is started as 'tradestore dev' on a new data folder, tested and removed."`
	DatabaseURL  string   `name:"database-url" group:"stores" placeholder:"postgres://USER:PASSWORD@HOST:5432/NAME" help:"PostgreSQL of the target: rows and journal are compared too. Reads only. It holds a password: set the environment variable, because everyone on the machine can read flags with 'ps'."`
	KafkaBrokers []string `name:"kafka-brokers" group:"stores" placeholder:"HOST:9092" help:"Kafka of the target, to see the lag from outside; separated by commas."`
	Topic        string   `name:"topic" group:"stores" default:"trades-inbound" help:"Topic that holds the log of accepted trades."`
	KafkaGroup   string   `name:"kafka-group" group:"stores" default:"tradestore-workers" help:"Consumer group of the workers, whose offsets show the lag when --database-url is not given."`
	WorkerURL    string   `name:"worker-url" group:"network" placeholder:"http://HOST:8001" help:"Worker of the target, to see its CPU, memory and lag."`

	Rate        float64       `name:"rate" group:"load" default:"1000" help:"Operations per second. With --find-capacity, where the search starts."`
	Duration    time.Duration `name:"duration" group:"load" default:"60s" help:"How long the load lasts."`
	Warmup      time.Duration `name:"warmup" group:"load" default:"5s" help:"Time before that, in which the rate rises. It is compared like the rest, but its latency does not count."`
	Stages      string        `name:"stages" group:"load" placeholder:"1000/30s,1000..2000/30s" help:"Rates and how long each lasts, in place of --rate and --duration; A..B is a ramp."`
	Mix         string        `name:"mix" group:"load" placeholder:"new=70,read-trade=30" help:"Kinds of operations and their weights; without it, a mix of all of them."`
	Seed        uint64        `name:"seed" group:"load" default:"0" help:"Repeats the operations of the run that showed it; 0 takes a new one."`
	Generator   string        `name:"generator" group:"load" default:"auto" help:"vegeta, light (less CPU, for high rates), or auto: light from 4000 operations per second on."`
	Connections int           `name:"connections" group:"load" default:"1000" help:"Most connections for the load; each carries one operation at a time. A server takes --max-conns-per-addr from one address."`

	MaxAcceptP99 time.Duration `name:"max-accept-p99" env:"TRADESTORE_MAX_ACCEPT_P99" group:"objectives" default:"100ms" help:"Limit for the 99th percentile of the time from due time to 202."`
	MaxFinalP99  time.Duration `name:"max-final-p99" env:"TRADESTORE_MAX_FINAL_P99" group:"objectives" default:"1s" help:"Limit for the 99th percentile of the time from due time to SUCCESS or FAILED."`
	MaxErrorRate float64       `name:"max-error-rate" group:"objectives" default:"0.001" help:"Share of operations without the answer that they must get; shed ones (503) count."`
	Follow       float64       `name:"follow" group:"objectives" default:"50" help:"Accepted trades per second that are followed to their end."`
	DrainTimeout time.Duration `name:"drain-timeout" group:"objectives" default:"60s" help:"After the load, how long everything accepted has to be decided. What is not is stuck."`

	FindCapacity bool          `name:"find-capacity" env:"-" group:"load" help:"Find the highest sustained rate, what limits it, and how the service behaves above it."`
	StepDuration time.Duration `name:"step-duration" group:"load" default:"15s" help:"How long --find-capacity holds each rate."`

	Out  string `name:"out" group:"reporting" default:"./loadtest-report" help:"Folder for reports; each run makes a new one in it."`
	JSON bool   `name:"json" env:"-" group:"reporting" help:"Write report.json to standard output in place of the tables."`
}

// Env is what a run needs from its process.
type Env struct {
	Self     string    // path of a program with the command dev, for runs without a target; empty: none
	Build    Build     // of this program
	Settings []Setting // as they were given, secrets masked
	Progress io.Writer // nil: nothing is shown
	Terminal bool      // Progress is one
}

const (
	slowest, fastest = 0.1, 200_000.0 // operations per second
	mostConnections  = 60_000         // an address has no more ports
)

// Validate returns every mistake in the settings, one per line with its flag.
func (c *Config) Validate() error {
	var lines []error
	wrong := func(format string, args ...any) { lines = append(lines, fmt.Errorf(format, args...)) }
	c.validateEndpoints(wrong)
	c.validateLoad(wrong)
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"--max-accept-p99", c.MaxAcceptP99}, {"--max-final-p99", c.MaxFinalP99}, {"--drain-timeout", c.DrainTimeout}} {
		if d.value <= 0 {
			wrong("%s: %v is not positive", d.flag, d.value)
		}
	}
	if !(c.MaxErrorRate >= 0 && c.MaxErrorRate <= 1) {
		wrong("--max-error-rate: %v is not between 0 and 1", c.MaxErrorRate)
	}
	if !(c.Follow > 0 && c.Follow <= 1000) {
		wrong("--follow: %v is not above 0 and at most 1000", c.Follow)
	}
	if c.Out == "" {
		wrong("--out: empty")
	}
	return errors.Join(lines...)
}

func (c *Config) validateEndpoints(wrong func(string, ...any)) {
	for _, u := range []struct{ flag, value string }{{"--target", c.Target}, {"--worker-url", c.WorkerURL}} {
		if u.value == "" {
			continue
		}
		if parsed, err := url.Parse(u.value); err != nil || parsed.Scheme != "http" || parsed.Host == "" ||
			len(parsed.Path) > 1 || parsed.RawQuery != "" {
			wrong("%s: not a URL like http://127.0.0.1:8000", u.flag)
		}
	}
	if c.DatabaseURL != "" {
		if parsed, err := url.Parse(c.DatabaseURL); err != nil || parsed.Scheme != "postgres" &&
			parsed.Scheme != "postgresql" {
			wrong("--database-url: not a URL like postgres://user:password@host:5432/name")
		}
	}
	for _, broker := range c.KafkaBrokers {
		if _, port, err := net.SplitHostPort(broker); err != nil || port == "" {
			wrong("--kafka-brokers: %q is not host:port", broker)
		}
	}
	if c.Target != "" {
		return
	}
	for _, given := range []struct {
		flag string
		set  bool
	}{{"--database-url", c.DatabaseURL != ""}, {"--kafka-brokers", len(c.KafkaBrokers) > 0},
		{"--worker-url", c.WorkerURL != ""}} {
		if given.set {
			wrong("%s: belongs to a --target, and none is given; the embedded stack brings its own", given.flag)
		}
	}
}

func (c *Config) validateLoad(wrong func(string, ...any)) {
	if !(c.Rate >= slowest && c.Rate <= fastest) {
		wrong("--rate: %v is not between %v and %v operations per second", c.Rate, slowest, fastest)
	}
	if c.Duration < time.Second {
		wrong("--duration: %v is less than a second", c.Duration)
	}
	if c.Warmup < 0 {
		wrong("--warmup: %v is negative", c.Warmup)
	}
	if c.StepDuration < time.Second {
		wrong("--step-duration: %v is less than a second", c.StepDuration)
	}
	if c.Connections < 1 || c.Connections > mostConnections {
		wrong("--connections: %d is not between 1 and %d", c.Connections, mostConnections)
	}
	if c.Generator != auto && c.Generator != withVegeta && c.Generator != withLight {
		wrong("--generator: %q is not one of auto, vegeta, light", c.Generator)
	}
	if _, err := ParseMix(c.Mix); c.Mix != "" && err != nil {
		wrong("--%w", err) // it begins with "mix"
	}
	if _, err := ParseStages(c.Stages); c.Stages != "" && err != nil {
		wrong("--stages: %w", err)
	}
	if c.FindCapacity && c.Stages != "" {
		wrong("--stages: --find-capacity chooses the rates itself")
	}
}

// The generators, as --generator names them.
const (
	auto       = "auto"
	withVegeta = "vegeta"
	withLight  = "light"
)

// lightFrom is the rate, in operations per second, from which vegeta would use a large part of the CPU of a small
// machine.
const lightFrom = 4000
