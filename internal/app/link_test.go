package app

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLink(t *testing.T) {
	var none *Link
	none.to(func() { t.Error("nobody is linked") })
	none.tell()
	var link Link
	link.tell() // before the server is there
	told := 0
	link.to(func() { told++ })
	link.tell()
	assert.Equal(t, 1, told)
}
