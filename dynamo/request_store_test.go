package dynamo

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func open(t testing.TB, cfg Config) (*RequestStore, error) {
	t.Helper()
	return Open(t.Context(), cfg, prometheus.NewRegistry(), zerolog.Nop())
}

func TestSettingsThatCantBeUsed(t *testing.T) {
	f := func(cfg Config, want string) {
		t.Helper()
		_, err := open(t, cfg)
		require.ErrorContains(t, err, want)
	}
	f(Config{}, "--dynamodb-table")
	f(Config{Table: `x" WHERE`}, "--dynamodb-table")
	f(Config{Table: "requests", Endpoint: "127.0.0.1:8002"}, "--dynamodb-endpoint")
	f(Config{Table: "requests", Endpoint: "ftp://127.0.0.1"}, "--dynamodb-endpoint")
	f(Config{Table: "requests", Endpoint: "http://me:secret@127.0.0.1"}, "--dynamodb-endpoint")
	f(Config{Table: "requests"}, "AWS_REGION")
	t.Setenv("AWS_CA_BUNDLE", "/does/not/exist")
	f(Config{Table: "requests", Endpoint: "http://127.0.0.1:8002"}, "AWS settings of the environment")
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := Config{Table: "requests", Endpoint: "http://localhost:8002"}
	_, err := Open(t.Context(), cfg, reg, zerolog.Nop())
	require.NoError(t, err)
	_, err = Open(t.Context(), cfg, reg, zerolog.Nop())
	require.ErrorContains(t, err, "metrics of the request store")

	families, err := reg.Gather()
	require.NoError(t, err)
	require.Len(t, families, 5, "all are there from the start")
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	_, err = testutil.GatherAndCount(reg)
	require.NoError(t, err)
}

// Credentials of the chain sign; DynamoDB Local takes any, so there none have to be set.
func TestCredentials(t *testing.T) {
	f := func(endpoint, want string) {
		t.Helper()
		l, err := open(t, Config{Table: "requests", Endpoint: endpoint})
		require.NoError(t, err)
		keys, err := l.client.Options().Credentials.Retrieve(t.Context())
		if want == "" {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, keys.AccessKeyID)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	f("http://127.0.0.1:8002", "local")
	f("http://localhost:8002", "local")
	f("http://[::1]:8002", "local")
	f("http://dynamodb:8000", "")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "example")
	f("http://127.0.0.1:8002", "AKIDEXAMPLE")
	f("http://dynamodb:8000", "AKIDEXAMPLE")
}

func TestRegionOfTheEnvironment(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	l, err := open(t, Config{Table: "requests"})
	require.NoError(t, err)
	require.Equal(t, "eu-central-1", l.client.Options().Region)
	require.Nil(t, l.client.Options().BaseEndpoint)
}

func TestResults(t *testing.T) {
	f := func(err error, want result) {
		t.Helper()
		require.Equal(t, want, resultOf(err))
	}
	f(nil, done)
	f(errors.New("something"), unknown)
	f(fmt.Errorf("later: %w", &unsentError{errors.New("refused")}), unsent)

	s := func(code types.BatchStatementErrorCodeEnum, want result) {
		t.Helper()
		require.Equal(t, want, resultOfStatement(&types.BatchStatementError{Code: code}))
	}
	s("ConditionalCheckFailed", unmet)
	s("ProvisionedThroughputExceeded", throttled)
	s("RequestLimitExceeded", throttled)
	s("ThrottlingError", throttled)
	s("AccessDenied", refused)
	s("ValidationError", refused)
	s("InternalServerError", unknown)
	s("TransactionConflict", unknown)
	s("SomethingNew", unknown)
	require.Equal(t, done, resultOfStatement(nil))
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("broken") }

func (brokenBody) Close() error { return nil }

func TestABodyThatCantBeRead(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1:1", brokenBody{})
	require.NoError(t, err)
	_, err = newTransport(1).Do(req)
	require.Equal(t, unsent, resultOf(err))
}

// The rule S1 by its call sites: a put without a condition is Open's alone, and every other write carries one.
func TestWritesCarryTheirCondition(t *testing.T) {
	files := make(map[string]*ast.File)
	set := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			files[name], err = parser.ParseFile(set, name, nil, 0)
			require.NoError(t, err)
		}
	}
	require.Contains(t, files, "project.go")
	writes := 0
	for name, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				switch n.Sel.Name {
				case "DeleteItem", "TransactWriteItems", "ExecuteTransaction", "ExecuteStatement":
					t.Errorf("%s: %s has no place here", set.Position(n.Pos()), n.Sel.Name)
				case "BatchWriteItem":
					writes++
					require.Equal(t, "open.go", name, "only Open may put without a condition")
				}
			case *ast.CompositeLit:
				checkWrite(t, set, n)
			case *ast.BasicLit:
				write := func(verb string) bool { return strings.Contains(n.Value, verb) }
				if slices.ContainsFunc([]string{"UPDATE ", "INSERT ", "DELETE "}, write) {
					writes++
					require.Equal(t, "project.go", name, "the one statement that writes is there")
				}
			}
			return true
		})
	}
	require.Equal(t, 2, writes, "else this test proves nothing")
	require.Equal(t, ` REMOVE "pending" WHERE "request_id" = ? AND "status" = 'PENDING'`, onlyPending)
	statement := (&RequestStore{cfg: Config{Table: "t"}}).projectStatement(&succeeded(newRequests(1))[0])
	require.True(t, strings.HasSuffix(*statement.Statement, onlyPending))
}

func checkWrite(t *testing.T, set *token.FileSet, lit *ast.CompositeLit) {
	t.Helper()
	kind, ok := lit.Type.(*ast.SelectorExpr)
	if !ok || kind.Sel.Name != "PutItemInput" && kind.Sel.Name != "UpdateItemInput" {
		return
	}
	for _, element := range lit.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok && key.Name == "ConditionExpression" {
				return
			}
		}
	}
	t.Errorf("%s: a write without a condition", set.Position(lit.Pos()))
}
