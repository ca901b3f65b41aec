package services

import (
	"context"
	"crypto/sha256"
	_ "embed" // Loopback.java
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The versions of the services.
const (
	KafkaVersion    = "4.3.1"
	DynamoDBVersion = "2.6.1"
)

const (
	copyPlugin    = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
	downloadLimit = 5 * time.Minute
	marker        = "complete" // written last
)

//go:embed Loopback.java
var loopbackSource string

// jars is a program on Maven Central.
type jars struct {
	name      string   // of its folder in the cache
	artifacts []string // group:artifact:version; what they depend on comes with them
	source    string   // a main class of ours, named Loopback; may be empty
}

var (
	kafkaJars = jars{name: "kafka-" + KafkaVersion, artifacts: []string{
		"org.apache.kafka:kafka_2.13:" + KafkaVersion,
		"org.apache.kafka:kafka-tools:" + KafkaVersion,
		"org.slf4j:slf4j-simple:1.7.36", // without a logger the broker says nothing at all
	}}
	dynamoJars = jars{name: "dynamodb-local-" + DynamoDBVersion, artifacts: []string{
		"com.amazonaws:DynamoDBLocal:" + DynamoDBVersion,
	}, source: loopbackSource}
)

// ErrMissing says that this machine lacks Java 17, or that the jars are not in the cache and can't be fetched: without
// Maven, without a JDK (a JRE can't compile) or without a way to Maven Central. The error names which.
var ErrMissing = errors.New("something is missing")

// DefaultCacheDir is where jars are kept: below TRADESTORE_CACHE_DIR if set, else below the user's cache folder.
func DefaultCacheDir() (string, error) {
	if dir := os.Getenv("TRADESTORE_CACHE_DIR"); dir != "" {
		return filepath.Join(dir, "jars"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cannot find a cache folder, set TRADESTORE_CACHE_DIR: %w", err)
	}
	return filepath.Join(dir, "tradestore", "jars"), nil
}

// find returns the java program and the folder of resolve.
func (j jars) find(ctx context.Context, cache string) (java, dir string, err error) {
	if java, err = findJava(ctx); err == nil {
		dir, err = j.resolve(ctx, cache, java)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return java, dir, nil
}

// resolve returns the folder with the program's jars in lib and its own class in classes, and fetches them first if
// need be. cache may be empty. Other processes may do so at the same time: one works, the others wait. A folder without
// the marker is what a killed or failed attempt left, and is made again.
func (j jars) resolve(ctx context.Context, cache, java string) (string, error) {
	if cache == "" {
		var err error
		if cache, err = DefaultCacheDir(); err != nil {
			return "", err
		}
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return "", fmt.Errorf("cannot use cache folder: %w", err)
	}
	// Another recipe gets another folder, so that no one changes the jars under a running program.
	sum := sha256.Sum256([]byte(j.pom() + copyPlugin + j.source))
	dir := filepath.Join(cache, j.name+"-"+hex.EncodeToString(sum[:4]))
	if j.complete(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("cannot make cache folder: %w", err)
	}
	unlock, err := waitLock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if j.complete(dir) { // another process was faster
		return dir, nil
	}
	if err := j.fetch(ctx, dir, java); err != nil {
		return "", fmt.Errorf("cannot fetch the jars of %s: %w", j.name, err)
	}
	return dir, nil
}

func (j jars) complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, marker))
	return err == nil
}

func (j jars) fetch(ctx context.Context, dir, java string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("no Maven found: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("cannot remove what an earlier attempt left: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "classes"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(j.pom()), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, downloadLimit, fmt.Errorf("mvn takes longer than %v", downloadLimit))
	defer cancel()
	// With -C a jar that is not what its checksum says is refused.
	if err := runTool(ctx, dir, mvn, "-B", "-q", "-C", "-Dstyle.color=never", copyPlugin, "-DoutputDirectory=lib", "-DincludeScope=runtime"); err != nil {
		return err
	}
	if j.source != "" {
		if err := j.compile(ctx, dir, java); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, marker), nil, 0o644)
}

func (j jars) compile(ctx context.Context, dir, java string) error {
	libs, err := filepath.Glob(filepath.Join(dir, "lib", "*.jar")) // the compiler knows no lib/* when it is called this way
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "Loopback.java")
	if err := os.WriteFile(source, []byte(j.source), 0o644); err != nil {
		return err
	}
	if err := runTool(ctx, dir, java, "-m", "jdk.compiler/com.sun.tools.javac.Main", "-cp", strings.Join(libs, string(filepath.ListSeparator)), "-d", "classes", source); err != nil {
		return fmt.Errorf("cannot compile with %s, which must be of a JDK: %w", java, err)
	}
	return nil
}

// pom is a project that is nothing but its dependencies.
func (j jars) pom() string {
	var b strings.Builder
	b.WriteString(`<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>tradestore</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
`)
	for _, a := range j.artifacts {
		part := strings.Split(a, ":")
		fmt.Fprintf(&b, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n", part[0], part[1], part[2])
	}
	b.WriteString("</dependencies></project>\n")
	return b.String()
}

// classPath names the jars of a resolved folder, for java -cp.
func classPath(dir string) string {
	return filepath.Join(dir, "lib", "*") + string(filepath.ListSeparator) + filepath.Join(dir, "classes")
}

// waitLock takes the lock file at path, which it makes, as soon as it is free. The kernel frees it when the process
// ends, however it ends.
func waitLock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock: %w", err)
	}
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("cannot lock %s, which another process holds: %w", path, context.Cause(ctx))
		}
	}
}
