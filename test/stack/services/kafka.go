package services

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/internal/proc"
)

const defaultHeap = 512 // MiB

// quickStart are options of a Java that is to be up soon and to leave the processor to others: the best code is not
// worth the time that it takes to make.
var quickStart = []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}

// KafkaConfig says where a broker keeps its files and how it runs.
type KafkaConfig struct {
	Dir      string // for data, settings and log; made when missing. One broker at a time
	CacheDir string // for the jars, shared by all brokers; empty: in the user's cache folder
	Port     int    // of clients, on 127.0.0.1; 0: the one of the last time if it is free, else any free one
	HeapMiB  int    // most memory of the Java heap; 0: 512
	// FullSpeed compiles with all optimizations: it takes about twice as long to start and is faster after some minutes.
	FullSpeed bool
	// Fsync has each batch on disk before it is acknowledged. Without it the page cache has it, as is Kafka's contract
	// with its users: it survives kill -9 of the broker, not a power cut of the machine.
	Fsync bool
	// Join is the node whose cluster this one joins, as broker number 2; nil: it is a cluster of its own.
	Join *Kafka
	// Settings are further broker settings, such as min.insync.replicas; they win over the ones made here.
	Settings map[string]string
}

// Kafka is a running broker: Apache Kafka in KRaft mode, one node that is broker and controller, or one that has joined
// it as a broker. Topics aren't made by use.
type Kafka struct {
	*Process
	cluster    string // its ID
	controller string // where the controller listens
}

// StartKafka starts a broker, makes its storage first when the folder is new, and returns when clients can work: every
// partition there is has a leader. The first start on a machine fetches about 54 MB. Errors: proc.ErrPortTaken;
// ErrMissing.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	k, err := prepareKafka(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot start Apache Kafka: %w", err)
	}
	if err := k.start(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// Addrs are the addresses for clients to start from.
func (k *Kafka) Addrs() []string { return []string{proc.Loopback(k.port)} }

func prepareKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	java, jars, err := kafkaJars.find(ctx, cfg.CacheDir)
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	port, err := proc.ChoosePort(cfg.Port, filepath.Join(dir, "port"))
	if err != nil {
		return nil, err
	}
	controller, err := proc.ChoosePort(0, filepath.Join(dir, "controller.port"))
	if err != nil {
		return nil, err
	}
	k := &Kafka{cluster: clusterID(), controller: proc.Loopback(controller),
		Process: &Process{name: "Apache Kafka", port: port, log: filepath.Join(dir, "kafka.log")}}
	settings := cfg.settings(port, k.controller)
	if cfg.Join != nil {
		k.cluster, k.controller = cfg.Join.cluster, cfg.Join.controller
		maps.Copy(settings, map[string]string{
			"process.roles": "broker", "node.id": "2", "listeners": "PLAINTEXT://" + proc.Loopback(port),
			"controller.quorum.voters": "1@" + k.controller,
		})
	}
	if err := writeSettings(filepath.Join(dir, "server.properties"), settings); err != nil {
		return nil, err
	}
	if err := format(ctx, dir, java, jars, k.cluster, settings); err != nil {
		return nil, err
	}
	k.probe = func(ctx context.Context) error { return hasLeaders(ctx, k.Addrs()) }
	k.build = func() *exec.Cmd {
		cmd := exec.Command(java, append(cfg.options(), "-cp", classPath(jars), "kafka.Kafka", "server.properties")...)
		cmd.Dir = dir
		return cmd
	}
	return k, nil
}

func (c KafkaConfig) options() []string {
	options := []string{fmt.Sprintf("-Xmx%dm", cmp.Or(c.HeapMiB, defaultHeap)),
		"-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS"}
	if !c.FullSpeed {
		options = append(options, quickStart...)
	}
	return options
}

// settings are what one node needs, and what lets tests go on without a wait. Paths are relative to the folder.
func (c KafkaConfig) settings(port int, controller string) map[string]string {
	s := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"listeners":                      "PLAINTEXT://" + proc.Loopback(port) + ",CONTROLLER://" + controller,
		"advertised.listeners":           "PLAINTEXT://" + proc.Loopback(port),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"controller.listener.names":      "CONTROLLER",
		"controller.quorum.voters":       "1@" + controller,
		"log.dirs":                       "data",
		"auto.create.topics.enable":      "false",

		"default.replication.factor":                       "1",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",

		// Internal topics have 50 partitions by default: for one node those are files and no use.
		"offsets.topic.num.partitions":                 "4",
		"transaction.state.log.num.partitions":         "4",
		"share.coordinator.state.topic.num.partitions": "4",
		// The first member of a group does not wait for others.
		"group.initial.rebalance.delay.ms": "0",
		// A member may ask to be given up soon.
		"group.min.session.timeout.ms": "1000",
		// A killed broker may come back only when its session is over.
		"broker.session.timeout.ms":    "5000",
		"broker.heartbeat.interval.ms": "500",
	}
	if c.Fsync {
		s["log.flush.interval.messages"] = "1"
	}
	maps.Copy(s, c.Settings)
	return s
}

func writeSettings(path string, settings map[string]string) error {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", name, settings[name])
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("cannot write settings: %w", err)
	}
	return nil
}

// format makes the storage of a new folder beside its final place and renames it when it is complete: a crash leaves
// data.new, which the next start throws away.
func format(ctx context.Context, dir, java, jars, cluster string, settings map[string]string) error {
	data, fresh := filepath.Join(dir, "data"), filepath.Join(dir, "data.new")
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("cannot remove half-made storage: %w", err)
	}
	settings = maps.Clone(settings)
	settings["log.dirs"] = filepath.Base(fresh)
	if err := writeSettings(filepath.Join(dir, "format.properties"), settings); err != nil {
		return err
	}
	err := runTool(ctx, dir, java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classPath(jars),
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"kafka.tools.StorageTool", "format", "-t", cluster, "-c", "format.properties")
	if err != nil {
		return fmt.Errorf("cannot make storage: %w", err)
	}
	if err := os.Rename(fresh, data); err != nil {
		return fmt.Errorf("cannot put storage in its place: %w", err)
	}
	return nil
}

// clusterID is a random UUID in Kafka's notation, which must not begin with a dash: tools would take it for a flag.
func clusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// hasLeaders asks the broker for all topics. A broker that is not yet let in by its controller lists no broker at all.
func hasLeaders(ctx context.Context, addrs []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RequestRetries(0), kgo.DialTimeout(readyLimit))
	if err != nil {
		return err
	}
	defer client.Close()
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, client)
	if err != nil {
		return err
	}
	if len(meta.Brokers) == 0 {
		return errors.New("no broker is in the cluster")
	}
	for _, topic := range meta.Topics {
		for _, p := range topic.Partitions {
			if p.Leader < 0 {
				return errors.New("partition " + strconv.Itoa(int(p.Partition)) + " has no leader")
			}
		}
	}
	return nil
}

// makeDir makes the folder of a service and returns its absolute path.
func makeDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no folder given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("cannot use folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make folder: %w", err)
	}
	return dir, nil
}
