package main

import (
	"fmt"
	"net"

	"github.com/valyala/fasthttp"
)

// serveNoop answers every request with a 202 of the usual size and does nothing else: the limit that HTTP itself sets.
// It prints its address and runs until it is killed.
func serveNoop() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // lives as long as the process
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	fmt.Println(ln.Addr())
	body := []byte(`{"request_id":"019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a","status":"PENDING","trade_id":"noop-255-12345","version":1}`)
	return fasthttp.Serve(ln, func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		ctx.SetContentType("application/json")
		ctx.SetBody(body)
	})
}
