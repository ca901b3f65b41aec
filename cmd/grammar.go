package cmd

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"tradestore/internal/app"
)

// commandLine is the grammar: one subcommand per role, then those that call the service. Flags can also be set in the
// environment, except those that choose one action (env:"-").
type commandLine struct {
	developerCommands

	Server      serverCommand      `cmd:"" help:"Accept trades over HTTP and answer what became of them."`
	Worker      workerCommand      `cmd:"" help:"Store accepted trades in PostgreSQL, in log order."`
	Migrate     migrateCommand     `cmd:"" help:"Make or update the schema, the table of a request store on DynamoDB, the topic and its position rows."`
	Check       checkCommand       `cmd:"" help:"Check that Kafka, PostgreSQL and the request store are configured as required."`
	Orphans     orphansCommand     `cmd:"" help:"List requests that stay PENDING because nobody can tell whether they were delivered, and end them."`
	Healthcheck healthcheckCommand `cmd:"" help:"Ask a role on this machine whether it is ready."`
	Loadtest    loadtestCommand    `cmd:"" help:"Send trades at a fixed rate to a deployment, or to a new embedded one, and check every outcome."`
	Submit      submitCommand      `cmd:"" help:"Submit the trades of a file: JSON, NDJSON or CSV."`
	Status      statusCommand      `cmd:"" help:"Show where a request stands, or watch it until it is decided."`
	Trades      tradesCommand      `cmd:"" help:"Show the stored versions of a trade."`
	Replay      replayCommand      `cmd:"" help:"List the records that could not be stored, and submit chosen ones again."`
	Completion  completionCommand  `cmd:"" help:"Print the script that completes commands and flags in a shell."`
	Version     versionCommand     `cmd:"" help:"Show which build this is."`
}

const description = `Trade Store takes trades over HTTP, keeps them in Kafka until they are stored, and stores each one once in PostgreSQL.

Flags can also be set in the environment: TRADESTORE_ and the name, like TRADESTORE_LISTEN for --listen. A flag wins. Flags that choose one action, like --json, have no variable.
Durations are written 250ms, 30s or 72h. SIGTERM or SIGINT drains; a second one ends the process at once.

Exit codes: 0 done, or stopped after a clean drain; 1 failed; 2 a mistake in the flags or the environment. Commands that call the service have some more, as their help says.

The Go runtime takes GOMAXPROCS from the cores (or the CPU limit of the container) by itself. Set GOMEMLIMIT, like GOMEMLIMIT=1800MiB, to about nine tenths of a container's memory.`

var groups = []kong.Group{
	{Key: "load", Title: "Load"},
	{Key: "objectives", Title: "Objectives"},
	{Key: "choice", Title: "Which ones"},
	{Key: "network", Title: "Network"},
	{Key: "stores", Title: "Stores"},
	{Key: "tuning", Title: "Limits and tuning"},
	{Key: "http", Title: "HTTP"},
	{Key: "reporting", Title: "Reporting"},
}

// errHelpShown says that the user asked for help and has it.
var errHelpShown = errors.New("help shown")

// Parse reads the command line and the environment and returns the command they choose and its settings, masked.
// Its error lists every mistake, one per line.
func Parse(args []string, stdout, stderr io.Writer) (selected Command, settings map[string]string, err error) {
	var bad badFlags
	helpShown := false
	parser, err := newParser(
		append(bad.mappers(),
			kong.Description(description),
			kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
			kong.Writers(stdout, stderr),
			kong.Exit(func(int) { helpShown = true }))...)
	if err != nil {
		return nil, nil, err
	}
	parsed, err := parser.Parse(args)
	if helpShown {
		return nil, nil, errHelpShown
	}
	var wrong *kong.ParseError
	if errors.As(err, &wrong) {
		parsed = wrong.Context
	}
	if parsed == nil || parsed.Selected() == nil {
		return nil, nil, fmt.Errorf("tradestore: %w\n'tradestore --help' lists the commands", err)
	}
	node := parsed.Selected()
	if mistakes := bad.list(node, err); len(mistakes) > 0 {
		return nil, nil, fmt.Errorf("tradestore %[1]s: cannot use these settings:\n  %[2]s\n"+
			"'tradestore %[1]s --help' lists every setting",
			node.Name, strings.Join(mistakes, "\n  "))
	}
	settings = make(map[string]string)
	for _, flag := range node.Flags {
		settings[flag.Name] = show(flag.Target)
	}
	return node.Target.Addr().Interface().(Command), settings, nil
}

func show(value reflect.Value) string {
	if list, ok := value.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return app.Mask(fmt.Sprint(value.Interface()))
}

// badFlags collects the flags whose text is no number or no duration. The parser alone would stop at the first of
// them, and a start should show all mistakes at once.
type badFlags []mistake

type mistake struct {
	flag *kong.Value
	err  error
}

// mappers returns the parser's own readers of numbers and durations, made to collect what they can't read.
func (u *badFlags) mappers() []kong.Option {
	stock := kong.NewRegistry().RegisterDefaults()
	collect := func(t reflect.Type) kong.Mapper {
		read := stock.ForType(t)
		return kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
			if err := read.Decode(ctx, target); err != nil {
				*u = append(*u, mistake{ctx.Value, err})
			}
			return nil
		})
	}
	options := []kong.Option{kong.TypeMapper(reflect.TypeFor[time.Duration](), collect(reflect.TypeFor[time.Duration]()))}
	for _, t := range []reflect.Type{reflect.TypeFor[int](), reflect.TypeFor[int32](), reflect.TypeFor[int64](),
		reflect.TypeFor[uint64](), reflect.TypeFor[float64]()} {
		options = append(options, kong.KindMapper(t.Kind(), collect(t)))
	}
	return options
}

// list returns every mistake in the settings of the command chosen: what could not be read, then what err says of the
// rest. A flag that could not be read is not judged a second time.
func (u *badFlags) list(node *kong.Node, err error) []string {
	var lines []string
	seen := make(map[string]bool)
	for _, m := range *u {
		for _, flag := range node.Flags {
			if line := fmt.Sprintf("--%s: %v", flag.Name, m.err); flag.Value == m.flag && !seen[flag.Name] {
				seen[flag.Name] = true
				lines = append(lines, line)
			}
		}
	}
	if err == nil {
		return lines
	}
	for line := range strings.SplitSeq(strings.TrimPrefix(err.Error(), node.Path()+": "), "\n") {
		if flag, _, _ := strings.Cut(strings.TrimPrefix(line, "--"), ":"); !seen[flag] {
			lines = append(lines, line)
		}
	}
	return lines
}

// Model returns the grammar of this build: its commands, each with its flags and their defaults.
func Model() (*kong.Application, error) {
	parser, err := newParser()
	if err != nil {
		return nil, err
	}
	return parser.Model, nil
}

func newParser(options ...kong.Option) (*kong.Kong, error) {
	parser, err := kong.New(&commandLine{}, append(options,
		kong.Name("tradestore"), kong.DefaultEnvars("TRADESTORE"), kong.ExplicitGroups(groups))...)
	if err != nil {
		return nil, fmt.Errorf("cannot build the command line: %w", err)
	}
	return parser, nil
}
