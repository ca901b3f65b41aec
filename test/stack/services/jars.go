package services

import (
	"context"
	_ "embed" // Loopback.java
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// find returns the java program and the folder of ensure.
func (j jars) find(ctx context.Context, cache string) (java, dir string, err error) {
	if java, err = findJava(ctx); err == nil {
		dir, err = j.ensure(ctx, cache, java)
	}
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return java, dir, nil
}

// ensure returns the folder with the program's jars in lib and its own class in classes.
func (j jars) ensure(ctx context.Context, cache, java string) (string, error) {
	return recipe{kind: "jars", name: j.name, text: j.pom() + copyPlugin + j.source,
		fill: func(ctx context.Context, dir string) error {
			if err := j.fetch(ctx, dir, java); err != nil {
				return fmt.Errorf("cannot fetch the jars of %s: %w", j.name, err)
			}
			return nil
		}}.ensure(ctx, cache)
}

func (j jars) fetch(ctx context.Context, dir, java string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("no Maven found: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "classes"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(j.pom()), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, downloadLimit, fmt.Errorf("mvn takes longer than %v", downloadLimit))
	defer cancel()
	// With -C a jar that is not what its checksum says is refused.
	if err := runTool(ctx, dir, mvn, "-B", "-q", "-C", "-Dstyle.color=never", copyPlugin, "-DoutputDirectory=lib",
		"-DincludeScope=runtime"); err != nil {
		return err
	}
	if j.source == "" {
		return nil
	}
	return j.compile(ctx, dir, java)
}

func (j jars) compile(ctx context.Context, dir, java string) error {
	// the compiler knows no lib/* when it is called this way
	libs, err := filepath.Glob(filepath.Join(dir, "lib", "*.jar"))
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "Loopback.java")
	if err := os.WriteFile(source, []byte(j.source), 0o644); err != nil {
		return err
	}
	if err := runTool(ctx, dir, java, "-m", "jdk.compiler/com.sun.tools.javac.Main", "-cp",
		strings.Join(libs, string(filepath.ListSeparator)), "-d", "classes", source); err != nil {
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
		fmt.Fprintf(&b, "<dependency><groupId>%s</groupId><artifactId>%s</artifactId><version>%s</version></dependency>\n",
			part[0], part[1], part[2])
	}
	b.WriteString("</dependencies></project>\n")
	return b.String()
}

// classPath names the jars of a resolved folder, for java -cp.
func classPath(dir string) string {
	return filepath.Join(dir, "lib", "*") + string(filepath.ListSeparator) + filepath.Join(dir, "classes")
}
