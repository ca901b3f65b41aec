package app

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLink(t *testing.T) {
	var none *Link
	none.to(func() { t.Error("nobody is linked") })
	none.notify()
	var link Link
	link.notify() // before the server is there
	notified := 0
	link.to(func() { notified++ })
	link.notify()
	assert.Equal(t, 1, notified)
}
