package services

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// small is one jar of 15 kB that the broker needs anyway.
var small = jars{name: "small", artifacts: []string{"org.slf4j:slf4j-simple:1.7.36"}}

func TestJarsAreFetchedOnce(t *testing.T) {
	java, cache := needJava(t), t.TempDir()
	type result struct {
		dir string
		err error
	}
	results := make(chan result)
	for range 2 {
		go func() {
			dir, err := small.ensure(within(t), cache, java)
			results <- result{dir, err}
		}()
	}
	one, two := <-results, <-results
	require.NoError(t, one.err)
	require.NoError(t, two.err)
	require.Equal(t, one.dir, two.dir)
	jar := filepath.Join(one.dir, "lib", "slf4j-simple-1.7.36.jar")
	require.FileExists(t, jar)

	t.Run("half-done work is done again", func(t *testing.T) {
		require.NoError(t, os.Truncate(jar, 10))
		require.NoError(t, os.WriteFile(filepath.Join(one.dir, "lib", "left.jar"), nil, 0o600))
		_, err := small.ensure(within(t), cache, java)
		require.NoError(t, err)
		require.FileExists(t, filepath.Join(one.dir, "lib", "left.jar"), "the marker was there, so nothing was done")

		require.NoError(t, os.Remove(filepath.Join(one.dir, marker)))
		again, err := small.ensure(within(t), cache, java)
		require.NoError(t, err)
		require.Equal(t, one.dir, again)
		require.NoFileExists(t, filepath.Join(one.dir, "lib", "left.jar"))
		info, err := os.Stat(jar)
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(10_000))
	})
	t.Run("the cache is enough", func(t *testing.T) {
		t.Setenv("PATH", "")
		_, err := small.ensure(within(t), cache, java)
		require.NoError(t, err)
	})
}

func TestFailedFetchSaysWhatIsWrong(t *testing.T) {
	java, cache := needJava(t), t.TempDir()
	unknown := jars{name: "unknown", artifacts: []string{"org.slf4j:slf4j-simple:0.0.0"}}
	_, err := unknown.ensure(within(t), cache, java)
	require.ErrorContains(t, err, "cannot fetch the jars of unknown")
	require.ErrorContains(t, err, "org.slf4j:slf4j-simple:jar:0.0.0")
	left, err := filepath.Glob(filepath.Join(cache, "*", marker))
	require.NoError(t, err)
	require.Empty(t, left)

	broken := small
	broken.name, broken.source = "broken", "public class Loopback { int }"
	_, err = broken.ensure(within(t), cache, java)
	require.ErrorContains(t, err, "cannot compile")
	require.ErrorContains(t, err, "Loopback.java:1: error:")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = small.ensure(ctx, cache, java)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	fake := t.TempDir()
	t.Setenv("PATH", fake)
	t.Setenv("JAVA_HOME", "")
	f := func(script, want string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(fake, "java"), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
		_, err := StartKafka(t.Context(), KafkaConfig{Dir: t.TempDir(), CacheDir: t.TempDir()})
		require.ErrorContains(t, err, "cannot start Apache Kafka: something is missing: "+want)
		require.ErrorIs(t, err, ErrMissing)
		_, err = StartDynamoDB(t.Context(), DynamoDBConfig{Dir: t.TempDir(), CacheDir: t.TempDir()})
		require.ErrorContains(t, err, "cannot start DynamoDB Local: something is missing: "+want)
	}
	f(`echo 'openjdk version "17.0.15" 2025-04-15' >&2`, "cannot fetch the jars of ")
	f(`echo 'java version "1.8.0_402"' >&2`, "no Java 17 found: "+filepath.Join(fake, "java")+" is Java 1")
	f(`echo 'who knows'`, "no Java 17 found: cannot tell the version")
	f(`exit 1`, "no Java 17 found: "+filepath.Join(fake, "java")+" does not run")

	_, err := small.ensure(t.Context(), t.TempDir(), "java")
	require.ErrorContains(t, err, `no Maven found: exec: "mvn"`)
	t.Setenv("JAVA_HOME", filepath.Join(fake, "nowhere"))
	_, err = findJava(t.Context())
	require.ErrorContains(t, err, filepath.Join(fake, "nowhere", "bin", "java"))
}
