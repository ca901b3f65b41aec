package repo

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/cmd"
	"tradestore/test/program"
	"tradestore/test/stack"
	"tradestore/test/stack/services"
)

// composed loads the compose file as the engine's client does, with nothing set by the user.
func composed(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"docker-compose.yml"}, cli.WithName(module), cli.WithProfiles(profiles),
		cli.WithoutEnvironmentResolution)
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

// ours are the services that run the program.
var ours = []string{"migrate", "server", "worker"}

func TestComposeServices(t *testing.T) {
	project := composed(t)
	require.Equal(t, []string{"dynamodb", "kafka", "migrate", "postgres", "server", "worker"},
		slices.Sorted(maps.Keys(project.Services)))
	for name, s := range project.Services {
		if slices.Contains(ours, name) {
			assert.Equal(t, "Dockerfile", s.Build.Dockerfile, name)
			assert.True(t, s.ReadOnly, name)
			assert.Equal(t, "65532:65532", s.User, name)
		}
		assert.Equal(t, []string{"ALL"}, s.CapDrop, name)
		assert.Equal(t, []string{"no-new-privileges:true"}, s.SecurityOpt, name)
		for _, port := range s.Ports {
			assert.Equal(t, "127.0.0.1", port.HostIP, "%s: %s", name, port.Published)
		}
		for _, v := range s.Volumes {
			assert.Contains(t, project.Volumes, v.Source, "%s keeps its data in a named volume", name)
		}
		if name == "migrate" { // it ends
			assert.True(t, s.HealthCheck.Disable)
			continue
		}
		require.NotNil(t, s.HealthCheck, name)
		assert.NotNil(t, s.HealthCheck.StartPeriod, name)
		assert.Equal(t, "CMD", s.HealthCheck.Test[0], "%s: no shell", name)
	}
	published := func(service string) string { return project.Services[service].Ports[0].Published }
	assert.Equal(t, "8000", published("server"))
	assert.Equal(t, "8001", published("worker"))
	assert.Equal(t, "8002", published("dynamodb"))
}

// The images are the releases that the tests of this repository run on.
func TestComposeImagesAreThoseThatAreTested(t *testing.T) {
	project := composed(t)
	f := func(service, want string) {
		t.Helper()
		assert.Equal(t, want, project.Services[service].Image)
	}
	f("kafka", "apache/kafka:"+services.KafkaVersion)
	f("dynamodb", "amazon/dynamodb-local:"+services.DynamoDBVersion)
	embedded := string(read(t, "internal/dev/embedded/binaries.go"))
	release, _ := strings.CutPrefix(project.Services["postgres"].Image, "postgres:")
	assert.Contains(t, embedded, fmt.Sprintf("wantVersion = %q", release+".0"))
}

// A service starts when what it needs works: no restarts, no order by luck.
func TestComposeOrder(t *testing.T) {
	project := composed(t)
	f := func(service string, want map[string]string) {
		t.Helper()
		got := map[string]string{}
		for name, d := range project.Services[service].DependsOn {
			got[name] = d.Condition
		}
		assert.Equal(t, want, got, service)
	}
	stores := map[string]string{"postgres": "service_healthy", "kafka": "service_healthy", "dynamodb": "service_healthy"}
	f("migrate", stores)
	stores = maps.Clone(stores)
	stores["migrate"] = "service_completed_successfully"
	f("server", stores)
	f("worker", stores)
}

// environment returns the variables of a service that come from the compose file.
func environment(s types.ServiceConfig) map[string]string {
	env := map[string]string{}
	for name, value := range s.Environment {
		env[name] = *value
	}
	return env
}

// Command lines, names of variables and health checks are those that the program has.
func TestComposeCommandsAreUnderstood(t *testing.T) {
	project := composed(t)
	flags := commands(t)
	for _, name := range ours {
		s := project.Services[name]
		env := environment(s)
		t.Run(name, func(t *testing.T) {
			for variable, value := range env {
				t.Setenv(variable, value)
				if flag, ok := strings.CutPrefix(variable, "TRADESTORE_"); ok {
					assert.Contains(t, flags[s.Command[0]], strings.ToLower(strings.ReplaceAll(flag, "_", "-")), variable)
				}
			}
			_, settings, err := cmd.Parse(s.Command, os.Stdout, os.Stderr)
			require.NoError(t, err)
			assert.Equal(t, "single", settings["profile"])
			if s.HealthCheck.Disable {
				return
			}
			assert.Equal(t, types.HealthCheckTest{"CMD", "/tradestore", "healthcheck"}, s.HealthCheck.Test)
			selected, _, err := cmd.Parse(s.HealthCheck.Test[2:], os.Stdout, os.Stderr)
			require.NoError(t, err)
			target, err := selected.(interface{ Target() (string, error) }).Target()
			require.NoError(t, err)
			assert.Equal(t, fmt.Sprintf("http://127.0.0.1:%d/readyz", s.Ports[0].Target), target, "the port that is published")
			assert.Greater(t, time.Duration(*s.StopGracePeriod), 30*time.Second, "a drain is waited for")
		})
	}
}

// The load test runs when it is asked for, with settings that it has, against the services by their names.
func TestComposeLoadTest(t *testing.T) {
	s := composed(t, "load").Services["loadtest"]
	env := environment(s)
	for variable, value := range env {
		t.Setenv(variable, value)
	}
	_, settings, err := cmd.Parse(s.Command, os.Stdout, os.Stderr)
	require.NoError(t, err)
	assert.Equal(t, "http://server:8000", settings["target"])
	assert.Equal(t, "http://worker:8001", settings["worker-url"])
	assert.Equal(t, "kafka:19092", settings["kafka-brokers"])
	assert.Equal(t, "1000", settings["rate"])
	assert.Equal(t, "1m0s", settings["duration"])
	assert.Equal(t, settings["out"], s.Volumes[0].Target, "it can write its report")
	assert.True(t, s.ReadOnly)
	assert.Equal(t, []string{"ALL"}, s.CapDrop)
	for _, role := range []string{"server", "worker"} {
		assert.Equal(t, "service_healthy", s.DependsOn[role].Condition)
		assert.Equal(t, env["TRADESTORE_DATABASE_URL"], environment(composed(t).Services[role])["TRADESTORE_DATABASE_URL"])
	}
}

// observers are the services of the profile "observability".
var observers = []string{"collector", "grafana", "kafka-exporter", "loki", "postgres-exporter", "prometheus", "tempo"}

// What looks at the stack is pinned, may do nothing else, is reached through loopback, and starts with files of this
// repository.
func TestComposeObservability(t *testing.T) {
	project := composed(t, "observability")
	for _, name := range observers {
		s := project.Services[name]
		assert.Regexp(t, `^[a-z]+/[a-z-]+:v?\d+\.\d+\.\d+$`, s.Image, name)
		assert.Equal(t, []string{"ALL"}, s.CapDrop, name)
		assert.Equal(t, []string{"no-new-privileges:true"}, s.SecurityOpt, name)
		for _, port := range s.Ports {
			assert.Equal(t, "127.0.0.1", port.HostIP, name)
		}
		if s.HealthCheck != nil {
			assert.Equal(t, "CMD", s.HealthCheck.Test[0], "%s: no shell", name)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeVolume {
				assert.Contains(t, project.Volumes, v.Source)
				continue
			}
			assert.True(t, v.ReadOnly, v.Target)
			if v.Target != "/var/lib/docker/containers" { // of the engine
				assert.FileExists(t, filepath.Join(v.Source, map[string]string{
					"/etc/prometheus/rules": "alerts.yaml", "/etc/grafana/provisioning": "datasources/tradestore.yaml",
					"/etc/grafana/dashboards": "overview.json",
				}[v.Target]), name)
			}
		}
	}
	require.Len(t, project.Services, len(composed(t).Services)+len(observers))
	sources := read(t, "dashboards/provisioning/datasources/tradestore.yaml")
	for _, variable := range regexp.MustCompile(`(?m)url: \$(\w+)$`).FindAllSubmatch(sources, -1) {
		assertReaches(t, project,
			strings.TrimPrefix(environment(project.Services["grafana"])[string(variable[1])], "http://"))
	}
	for _, role := range []string{"server", "worker"} {
		s := project.Services[role]
		assert.Empty(t, environment(s)["OTEL_EXPORTER_OTLP_ENDPOINT"], "no traces unless somebody asks for them")
		assert.Equal(t, "json-file", s.Logging.Driver)
		assert.Contains(t, string(read(t, "dashboards/collector.yaml")),
			fmt.Sprintf(`\"tag\":\"%s\"`, s.Logging.Options["tag"]))
	}
	endpoint := regexp.MustCompile(`OTEL_EXPORTER_OTLP_ENDPOINT=http://(\S+) `).FindSubmatch(read(t, "Makefile"))
	assertReaches(t, project, string(endpoint[1]))
}

// listening are the ports of services that publish none, as their files or their programs have them.
var listening = map[string][]string{
	"collector": {"4318", "8888"}, "kafka-exporter": {"8080"}, "loki": {"3100"}, "postgres-exporter": {"9187"},
	"tempo": {"3200", "4317"},
}

// assertReaches demands that a service of the project listens on host:port.
func assertReaches(t *testing.T, project *types.Project, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err, address)
	require.Contains(t, project.Services, host)
	ports := listening[host]
	for _, p := range project.Services[host].Ports {
		ports = append(ports, fmt.Sprint(p.Target))
	}
	assert.Contains(t, ports, port, address)
}

// Prometheus is the one that the tests run. It takes its settings, and scrapes what is there.
func TestComposePrometheus(t *testing.T) {
	project := composed(t, "observability")
	version := regexp.MustCompile(`prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)`)
	tested := version.FindSubmatch(read(t, "test/stack/services/prometheus.mod"))
	minor, err := strconv.Atoi(string(tested[2]))
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("prom/prometheus:v%s.%d.%s", tested[1], minor, tested[3]),
		project.Services["prometheus"].Image)

	settings := strings.ReplaceAll(string(read(t, "dashboards/prometheus.yml")), "/etc/prometheus/rules/",
		absolute(t, "dashboards/rules")+"/")
	path := filepath.Join(t.TempDir(), "prometheus.yml")
	require.NoError(t, os.WriteFile(path, []byte(settings), 0o600))
	said, err := stack.Promtool(t, "check", "config", "--lint=all", "--lint-fatal", path)
	require.NoError(t, err, said)
	assert.Contains(t, said, "2 rule files found")
	jobs := map[string]string{}
	job := regexp.MustCompile(`job_name: (\S+)\n +static_configs: \[\{targets: \["(\S+)"\]\}\]`)
	for _, job := range job.FindAllStringSubmatch(settings, -1) {
		jobs[job[1]] = job[2]
		assertReaches(t, project, job[2])
	}
	assert.Len(t, jobs, strings.Count(settings, "job_name"))
	assert.Equal(t, "server:8000", jobs["tradestore-server"])
	assert.Equal(t, "worker:8001", jobs["tradestore-worker"])
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	require.NoError(t, err)
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// What the services would do in containers, without them: Apache Kafka with the settings of its service, and the
// program as the image has it, with command lines and environments of the compose file. Only addresses are others.
func TestComposeServicesWorkTogether(t *testing.T) {
	path, err := imageBinary()
	require.NoError(t, err)
	project := composed(t)
	inside, host, controller := freePort(t), freePort(t), freePort(t)
	broker := stack.ApacheKafka(t, func(cfg *services.KafkaConfig) {
		moved := strings.NewReplacer(
			"localhost:9093", fmt.Sprintf("127.0.0.1:%d", controller), "CONTROLLER://:9093",
			fmt.Sprintf("CONTROLLER://127.0.0.1:%d", controller),
			"kafka:19092", fmt.Sprintf("127.0.0.1:%d", inside), "INTERNAL://:19092",
			fmt.Sprintf("INTERNAL://127.0.0.1:%d", inside),
			"127.0.0.1:9092", fmt.Sprintf("127.0.0.1:%d", host), "HOST://:9092", fmt.Sprintf("HOST://127.0.0.1:%d", host))
		cfg.Port, cfg.Settings = inside, map[string]string{}
		for name, value := range environment(project.Services["kafka"]) {
			setting := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "KAFKA_"), "_", "."))
			if setting != "heap.opts" && setting != "log.dirs" {
				cfg.Settings[setting] = moved.Replace(value)
			}
		}
	})
	kafka := broker.Addrs()[0]
	require.Equal(t, fmt.Sprintf("127.0.0.1:%d", inside), kafka)
	database, dynamodb := stack.Database(t), stack.DynamoDB(t)
	table := fmt.Sprintf("compose-%d-%d", os.Getpid(), time.Now().UnixNano())

	listen := map[string]string{}
	started := func(name string) *program.Process {
		s := project.Services[name]
		env := environment(s)
		assert.Contains(t, env["TRADESTORE_DATABASE_URL"], "@postgres:5432/tradestore")
		assert.Equal(t, "kafka:19092", env["TRADESTORE_KAFKA_BROKERS"])
		assert.Equal(t, "http://dynamodb:8000", env["TRADESTORE_DYNAMODB_ENDPOINT"])
		env["TRADESTORE_DATABASE_URL"] = database
		env["TRADESTORE_KAFKA_BROKERS"] = kafka
		env["TRADESTORE_DYNAMODB_ENDPOINT"] = dynamodb
		env["TRADESTORE_DYNAMODB_TABLE"] = table
		if env["TRADESTORE_LISTEN"] != "" {
			listen[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
			env["TRADESTORE_LISTEN"] = listen[name]
		}
		var lines []string
		for variable, value := range env {
			lines = append(lines, variable+"="+value)
		}
		return program.Start(t, name, path, lines, s.Command...)
	}
	require.Zero(t, started("migrate").Exit(t))
	started("server")
	started("worker")
	for _, name := range []string{"server", "worker"} {
		require.Eventually(t, func() bool { // the health check of the image
			check := exec.Command(path, project.Services[name].HealthCheck.Test[2:]...)
			check.Env = []string{"TRADESTORE_LISTEN=" + listen[name]}
			return check.Run() == nil
		}, program.Patience, 200*time.Millisecond, name)
	}
	const body = `{"trade_id":"T1","version":1,"counterparty_id":"CP-1","book_id":"B1",` +
		`"maturity_date":"9998-12-31","created_date":"2026-01-02"}`
	api := "http://" + listen["server"]
	status, answer := program.Ask(t, http.MethodPost, api+"/api/v1/trades", body)
	require.Equal(t, http.StatusAccepted, status, answer)
	id := answer["request_id"].(string)
	require.Eventually(t, func() bool {
		_, answer = program.Ask(t, http.MethodGet, api+"/api/v1/requests/"+id, "")
		return answer["status"] == "SUCCESS"
	}, program.Patience, 50*time.Millisecond)
}

// The health checks of the stores: the script and the options that they call are there.
func TestComposeHealthChecksOfTheStores(t *testing.T) {
	project := composed(t)
	f := func(service string, want ...string) {
		t.Helper()
		assert.Equal(t, types.HealthCheckTest(append([]string{"CMD"}, want...)), project.Services[service].HealthCheck.Test)
	}
	f("postgres", "pg_isready", "--host", "127.0.0.1", "--username", "tradestore", "--dbname", "tradestore")
	f("kafka", "/opt/kafka/bin/kafka-broker-api-versions.sh", "--bootstrap-server", "localhost:19092")
	f("dynamodb", "curl", "--silent", "--output", "/dev/null", "http://127.0.0.1:8000/")

	endpoint := stack.DynamoDB(t)
	resp, err := http.Get(endpoint)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode,
		"an unsigned request is refused by a server that works, and curl is content")
	if tool, err := exec.LookPath("curl"); err == nil {
		check := slices.Clone([]string(project.Services["dynamodb"].HealthCheck.Test[2:]))
		check[len(check)-1] = endpoint
		require.NoError(t, exec.Command(tool, check...).Run())
	}
}
