package settings

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

type shared struct {
	Wait time.Duration `name:"wait" default:"3s"`
}

type config struct {
	shared
	Inner struct {
		Sizes []string `name:"sizes" default:"a,b"`
	} `embed:""`
	Count int `name:"count" group:"tuning" default:"7"`
	Plain int `kong:"-"`
}

func TestDefaultsComeFromTheTags(t *testing.T) {
	t.Setenv("COUNT", "8")
	t.Setenv("TRADESTORE_COUNT", "9")
	got := Defaults[config]()
	require.Equal(t, 3*time.Second, got.Wait)
	require.Equal(t, []string{"a", "b"}, got.Inner.Sizes)
	require.Equal(t, 7, got.Count, "the environment changes no default")
	require.Zero(t, got.Plain)
	require.Panics(t, func() {
		Defaults[struct {
			Count int `name:"count" default:"many"`
		}]()
	})
}

func TestMistakesAreListedInOrder(t *testing.T) {
	t.Parallel()
	var m Mistakes
	m.Add(nil)
	require.NoError(t, m.Err())
	Between(&m, "--lanes", 1, 1, 64)
	m.OneOf("--kind", "b", "a", "b")
	m.Address("--listen", ":0", true)
	m.Address("--broker", "kafka:9092", false)
	require.NoError(t, m.Err())

	Between(&m, "--lanes", 65, 1, 64)
	m.OneOf("--kind", "c", "a", "b")
	m.Address("--listen", "8000", true)
	m.Address("--broker", ":9092", false)
	m.Add(errors.New("--topic: empty"))
	require.EqualError(t, m.Err(), "--lanes: 65 is not between 1 and 64\n"+
		"--kind: \"c\" is not one of a, b\n"+
		"--listen: \"8000\" is not host:port, like 127.0.0.1:8000\n"+
		"--broker: \":9092\" is not host:port, like 127.0.0.1:8000\n"+
		"--topic: empty")
}
