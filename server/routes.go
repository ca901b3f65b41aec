package server

import (
	"bytes"
	"slices"
	"strings"

	"github.com/fasthttp/router"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"tradestore/internal/telemetry"
)

// Paths of the API.
const (
	tradesPath    = "/api/v1/trades"
	bulkPath      = "/api/v1/trades:batch"
	tradePath     = "/api/v1/trades/{trade_id}"
	historyPath   = "/api/v1/trades/{trade_id}/history"
	requestsPath  = "/api/v1/requests/" // and the id
	requestPath   = requestsPath + "{request_id}"
	lagPath       = "/api/v1/lag"
	healthPath    = "/api/v1/health"
	readyPath     = "/readyz"
	requestEvents = requestPath + "/events"
	tradeEvents   = "/api/v1/events"
)

// callKey is the user value that holds the call for the router's handlers.
const callKey = "call"

type handlers map[string]func(*call)

// routes returns the table of all routes.
func (s *Server) routes() *router.Router {
	r := router.New()
	// No redirects: they would teach clients two spellings of a path, and bypass rules on paths.
	r.RedirectTrailingSlash, r.RedirectFixedPath = false, false
	r.HandleMethodNotAllowed, r.HandleOPTIONS = false, false // its Allow would offer OPTIONS
	r.NotFound = onRoute(noRoute, func(c *call) { c.refuse(problem{code: NotFound, detail: "there is no such path"}) })
	list := s.api(s.listTrades, append([]string{paramLimit, paramCursor}, filterParams...)...)
	s.route(r, tradesPath, handlers{fasthttp.MethodPost: s.accept, fasthttp.MethodGet: list})
	s.route(r, bulkPath, handlers{fasthttp.MethodPost: s.acceptBulk})
	versions := s.api(s.getTrade, paramLimit, paramCursor, paramAsOf, paramPending)
	s.route(r, tradePath, handlers{fasthttp.MethodGet: versions})
	s.route(r, historyPath, handlers{fasthttp.MethodGet: s.api(s.getHistory, paramLimit, paramCursor)})
	s.route(r, requestPath, handlers{fasthttp.MethodGet: s.api(s.getRequest)})
	s.route(r, requestEvents, handlers{fasthttp.MethodGet: s.api(s.getRequestEvents)})
	s.route(r, tradeEvents, handlers{fasthttp.MethodGet: s.api(s.getTradeEvents, paramTradeID)})
	s.route(r, lagPath, handlers{fasthttp.MethodGet: s.api(s.getLag)})
	s.route(r, healthPath, handlers{fasthttp.MethodGet: s.read(s.getHealth)})
	s.route(r, "/livez", handlers{fasthttp.MethodGet: s.read(s.getLive)})
	s.route(r, readyPath, handlers{fasthttp.MethodGet: s.read(s.getReady)})
	for path, serve := range s.docs() {
		s.route(r, path, handlers{fasthttp.MethodGet: s.read(serve)})
	}
	metrics := fasthttpadaptor.NewFastHTTPHandler(telemetry.Handler(s.registry))
	s.route(r, "/metrics", handlers{fasthttp.MethodGet: s.read(func(c *call) { metrics(c.ctx) })})
	return r
}

// route registers the methods of a path. GET answers HEAD as well; every other method gets a 405.
func (s *Server) route(r *router.Router, path string, methods handlers) {
	if get, ok := methods[fasthttp.MethodGet]; ok {
		methods[fasthttp.MethodHead] = get
	}
	allowed := make([]string, 0, len(methods))
	for method, handle := range methods {
		allowed = append(allowed, method)
		s.m.routeAtZero(path, method)
		r.Handle(method, path, onRoute(path, handle))
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	r.ANY(path, onRoute(path, func(c *call) {
		c.ctx.Response.Header.Set(fasthttp.HeaderAllow, allow)
		c.refuse(problem{code: MethodNotAllowed, detail: "allowed: " + allow})
	}))
}

func onRoute(path string, handle func(*call)) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		c, _ := ctx.UserValue(callKey).(*call) // handle put it there
		c.route = path
		handle(c)
	}
}

// handle answers one request. Every request passes it, so its checks hold for every route.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	c := s.newCall(ctx)
	defer c.finish()
	uri := ctx.URI()
	if version := string(ctx.Request.Header.Protocol()); version != "HTTP/1.1" && version != "HTTP/1.0" {
		c.head.fault = "send the request as HTTP/1.1"
	}
	switch {
	case c.head.fault != "":
		// Two parsers could see two different requests in this message, so nothing after it can be trusted.
		c.refuse(problem{code: MalformedHTTP, detail: c.head.fault})
		hangUp(ctx, discardBytes)
		return
	case !bytes.Equal(uri.Path(), uri.PathOriginal()), bytes.IndexByte(ctx.Request.Header.RequestURI(), '#') >= 0:
		c.refuse(problem{code: InvalidPath, detail: "no escapes, doubled slashes, dots as steps or fragments"})
		return
	}
	ctx.SetUserValue(callKey, c)
	s.router.Handler(ctx)
}

// onWireError answers a message that the parser could not read. A connection without a byte gets no answer.
func (s *Server) onWireError(ctx *fasthttp.RequestCtx, err error) {
	ctx.Response.Reset()
	if open, ok := ctx.Conn().(*conn); ok && !open.heard.Load() {
		return
	}
	c := s.newCall(ctx)
	defer c.finish()
	p, unread := ofWire(err, &s.cfg), discardBytes
	if bulk, ok := s.bodies.refusal(&ctx.Request); ok && p.code == BodyTooLarge {
		p, unread = bulk, max(unread, s.cfg.BulkBytes)
	}
	c.refuse(p)
	hangUp(ctx, unread)
}

// hangUp closes the connection after the answer. This many more bytes may still arrive.
func hangUp(ctx *fasthttp.RequestCtx, bytes int) {
	ctx.SetConnectionClose()
	if open, ok := ctx.Conn().(*conn); ok {
		open.discardBody.Store(int64(bytes))
	}
}

// read wraps the handler of a GET. It refuses a body: some parsers would take it for a second request.
func (s *Server) read(handle func(*call)) func(*call) {
	return func(c *call) {
		if len(c.ctx.Request.Body()) > 0 || c.head.chunked {
			c.refuse(problem{code: UnexpectedBody, detail: "send the request without a body"})
			return
		}
		c.ctx.Response.Header.Set(headerCacheControl, "no-store")
		handle(c)
	}
}

// api wraps a read of the API. Its query may have the given parameters and no others.
func (s *Server) api(handle func(*call, query), params ...string) func(*call) {
	return s.read(func(c *call) {
		q, bad := parseQuery(c.ctx.URI().QueryString(), params)
		if bad != nil {
			c.refuse(*bad)
			return
		}
		handle(c, q)
	})
}
