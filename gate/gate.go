// Package gate gives each request one answer: who is asking, may they, and then the application is told, or the request ends
// here. It is plain net/http.
//
// Call New once for a site, then Gate.Handle for every request, before anything else answers it or changes its path. Handle
// answers by itself or calls next exactly once, with a request that holds no trace of a spoofed identity.
//
// Promised, in this order: over anything but TLS 1.3 nothing is answered (421); header names that an app or another product
// takes for an identity, a path, a method or a client are gone on every route; methods nobody listed get 405; a path with two
// meanings gets 400, and what goes on is byte for byte what was judged (RFC 3986 section 3.3, policy.ParsePath), absolute-form
// included, since net/http hides whether its authority equals Host (RFC 9112 section 3.2.2); unsafe requests and WebSockets of
// other origins get 403 (RFC 6454; Sec-Fetch-Site first); our prefix is answered by the portal; no session is one answer; no
// event, no access; the app gets Remote-User, Remote-Groups, Remote-Name and Remote-Email only when they have a value, and the
// same signed in Anteroom-Assertion. A request in flight ends when its session does, within a second: its context is cancelled,
// with the reason as its cause, a WebSocket gets a close frame (RFC 6455 section 7.4.1, code 1008), a write or read that waits for a slow
// client breaks off, and the audit log says so. While the store is silent nobody gets in, unless Config.OnStoreLoss says who.
//
// With Config.Bearer the site is a resource server: a request with an access token is judged by it alone. Its cookies are neither
// looked at nor passed on, no cookie of ours is set, the token never reaches the app, and a request in flight ends when it expires.
// Challenges follow RFC 6750 section 3, RFC 9449 section 7.1 and, when a route asks for a stronger or newer sign-in, RFC 9470; a
// page is sent through the sign-in again for that. RFC 9728's document is answered to everybody.
//
// On the way back: HSTS (RFC 6797) on every answer, no cookie of an app under our names, no identity headers, no shared caching
// of what a session saw unless the app says public or immutable, and the renewed session cookie.
// An OPTIONS request is judged like any other; a CORS preflight carries no cookie, so that an app with CORS needs a line such as
// `allow public OPTIONS /api/**`, or the preflight's origin is in AllowOrigins: then the gate answers what the rules would refuse, and
// such an origin may read our refusals. CONNECT, extended CONNECT (RFC 8441) included, is never let through.
//
// A refusal is told in the form that its client reads: a page or the way to the sign-in for a person, problem+json for a program, a
// status of gRPC in an answer of 200, and a close code (3000, 3003, 1013) for a WebSocket of the site's own page, whose script sees no
// status. Any other WebSocket client gets the status.
//
// Where no line allows a request, a running emergency access (Config.Emergency) may, as far as policy.Break says; each record carries
// its number, no cache keeps the answer, and what still runs when it ends is cut. Budget lines are counted (Config.Budget) before
// anything is let through. What a ledger, a counter or an alarm cannot say lets nobody in.
//
// Trusted: the TLS facts and Host in the request as net/http made it, session, policy and audit. Left to the caller: routing
// only its own hosts here, sending on what next received without a rewrite, X-Forwarded-For, -Host and -Proto (its proxy has to
// set them), and methods in queries or bodies ("_method"), which are the app's duty. Every error fails closed: the zero Gate,
// one without sessions or audit, and one that is not ready answer 503.
package gate

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/budget"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// Config says what the gate of one site works with.
type Config struct {
	Policy   *policy.Policy   // nil denies everything
	Sessions *session.Manager // nil: 503
	Audit    audit.Recorder   // nil: 503; audit.Off() when the operator wants none
	Prefix   string           // begins and ends with "/"; "" is "/.anteroom/"
	Portal   http.Handler     // answers everything below Prefix; nil: 404
	// Deny shows a page to a person; it has to write the status of the outcome. Headers that the answer needs are set already.
	// Nil: a line of plain text.
	Deny func(http.ResponseWriter, *http.Request, Outcome)
	// AllowOrigins are other origins, "https://host[:port]", whose pages may send unsafe requests and open WebSockets.
	AllowOrigins []string
	// Posted says that the provider of a source answers by a form: then a POST to Prefix + "callback/<source>" may come from a page of
	// another origin. nil: none may.
	Posted func(source string) bool
	// Bearer checks access tokens: the site is a resource server. nil: Authorization belongs to the app.
	Bearer Bearer
	// Emergency knows the emergency accesses that run. nil: no glass can be broken, whatever the rules say.
	Emergency *emergency.Ledger
	// Budget counts for the budget lines of the rules. nil: what such a line concerns is answered 503.
	Budget *budget.Budget
	// Counted says under which name budgets count at a host. A site with several hosts has one, or a person has a budget at each of
	// them. nil: the host.
	Counted func(host string) string
	// Person names who somebody is for budgets, the same for their sessions and their access tokens. nil: each way to sign in and
	// each issuer of tokens has people of its own.
	Person func(source, subject, username string) string
	// Alarm tells people that a budget is used up. nil: the audit log alone does.
	Alarm *alarm.Alarm
	// OnStoreLoss is how long after the store was last heard the sessions go on that this node had verified before. A silence is a
	// loss after 30 s: anything less denies from then on. No revocation comes from other nodes meanwhile.
	OnStoreLoss time.Duration
	Assertion   string                     // audience of Anteroom-Assertion; "": the site's host
	NoAssertion bool                       // the app gets no Anteroom-Assertion
	NoHSTS      bool                       // for a site whose operator sends its own Strict-Transport-Security
	ClientAddr  func(*http.Request) string // for the audit log; nil: the address of the connection
	Ready       func() bool                // false: 503; nil: always ready
	Now         func() time.Time           // nil: time.Now
	Logger      *slog.Logger               // nil: discard
}

// Gate is the gate of one site, safe for concurrent use.
type Gate struct {
	policy       *policy.Policy
	sessions     *session.Manager
	audit        audit.Recorder
	prefix       string
	portal       http.Handler
	deny         func(http.ResponseWriter, *http.Request, Outcome)
	posted       func(source string) bool
	bearer       Bearer
	origins      origins
	storeLoss    storeLoss
	audience     string
	noAssertion  bool
	noHSTS       bool
	clientAddr   func(*http.Request) string
	ready        func() bool
	now          func() time.Time
	misdirection *rareLog
	strangers    *flood
	shadowed     *flood // records of what is public, for shadow rules
	special      special
	ledger       ledger  // not nil where special.emergency
	counter      counter // nil: no budget can be counted
	counted      func(host string) string
	person       func(source, subject, username string) string
	local        localCounts
	alarm        alarm.Raiser
	unaudited    bool // the operator wants no log: no event is made up for it
}

// New checks the configuration. Its error names every problem and what to write instead.
func New(c Config) (*Gate, error) {
	g := &Gate{
		policy: c.Policy, sessions: c.Sessions, audit: c.Audit, prefix: c.Prefix, portal: c.Portal, deny: c.Deny, posted: c.Posted, bearer: c.Bearer,
		origins: origins{http.NewCrossOriginProtection(), map[string]bool{}}, audience: c.Assertion, noAssertion: c.NoAssertion,
		noHSTS: c.NoHSTS, clientAddr: c.ClientAddr, ready: c.Ready,
	}
	g.storeLoss.tolerate = c.OnStoreLoss
	g.special = specialOf(c.Policy, c.Emergency != nil)
	g.ledger, g.alarm, g.counted, g.person = c.Emergency, c.Alarm, c.Counted, c.Person
	if c.Budget != nil {
		g.counter = c.Budget
	}
	var problems []error
	if g.prefix == "" {
		g.prefix = "/.anteroom/"
	}
	if _, err := policy.ParsePath(g.prefix); err != nil || len(g.prefix) < 3 || !strings.HasSuffix(g.prefix, "/") || strings.Contains(g.prefix, "%") {
		problems = append(problems, fmt.Errorf("creating gate: prefix %q: write one that begins and ends with a slash, such as /.anteroom/", g.prefix))
	}
	for _, origin := range c.AllowOrigins {
		if err := g.origins.protection.AddTrustedOrigin(origin); err != nil {
			problems = append(problems, fmt.Errorf("creating gate: allowed origin %q: write scheme and host only, such as https://portal.example: %w", origin, err))
		} else if browser := asBrowsers(origin); browser != origin { // it would never match
			problems = append(problems, fmt.Errorf("creating gate: allowed origin %q: write %s, as browsers send it", origin, browser))
		}
		g.origins.trusted[origin] = true
	}
	if c.Assertion != "" && (len(c.Assertion) > longestAudience || !isClean(c.Assertion)) {
		problems = append(problems, fmt.Errorf("creating gate: audience %q of assertions: write a name of at most %d bytes without control characters", c.Assertion, longestAudience))
	}
	if c.OnStoreLoss < 0 {
		problems = append(problems, fmt.Errorf("creating gate: sessions that go on for %s after a loss of the store: write 0 or more", c.OnStoreLoss))
	}
	if g.counted == nil {
		g.counted = func(host string) string { return host }
	}
	if g.person == nil {
		g.person = func(source, subject, _ string) string { return source + "\x00" + subject }
	}
	if g.portal == nil {
		g.portal = http.NotFoundHandler()
	}
	if g.deny == nil {
		g.deny = denyInText
	}
	if g.clientAddr == nil {
		g.clientAddr = connectionAddr
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	g.unaudited = g.audit != nil && g.audit == audit.Off()
	g.now = c.Now
	g.strangers, g.shadowed = &flood{now: c.Now}, &flood{now: c.Now}
	g.misdirection = &rareLog{log: c.Logger, now: c.Now}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return g, nil
}

// door and room are the steps of a request: before and after it is known whether the portal answers. The first refusal ends it.
var (
	door = [...]func(*exchange) refusal{
		(*exchange).checkReady, (*exchange).checkTransport, (*exchange).checkHost, (*exchange).checkMethod, (*exchange).checkTarget, (*exchange).checkOrigin,
	}
	room = [...]func(*exchange) refusal{
		(*exchange).who, (*exchange).mayThey, (*exchange).record, (*exchange).tell,
	}
)

// Handle answers the request or calls next. next runs in the same goroutine; a panic of it is not recovered. r.RequestURI must be
// what the client sent. own reports that the answer is the gate's, also where next was called: the session ended before the app
// began to answer, and whatever error the app's side makes of that is none.
func (g *Gate) Handle(w http.ResponseWriter, r *http.Request, next http.Handler) (own bool) {
	x := &exchange{gate: g, r: r}
	x.answer.init(w, x)
	x.answer.setHSTS(w.Header())
	x.upgrade = strip(r) // before any decision, so that no error route finds what a stranger wrote
	for _, step := range door {
		if no := step(x); no.kind != "" {
			x.refuse(no)
			return true
		}
	}
	x.inside = true
	if x.path.Under(g.prefix) {
		g.portal.ServeHTTP(w, r)
		return true
	}
	if g.bearer != nil && x.answerMetadata(w) {
		return true
	}
	for _, step := range room {
		if no := step(x); no.kind != "" {
			x.refuse(no)
			return true
		}
	}
	return x.pass(next)
}

// exchange is one request on its way.
type exchange struct {
	gate     *Gate
	r        *http.Request
	site     string // the host without port, lower case; empty until it was checked
	path     policy.Path
	upgrade  bool     // to a WebSocket
	inside   bool     // it is past the door: transport, host, target and origin are as they must be
	cookies  []string // Cookie lines as received
	session  *session.Session
	caller   *Caller // of a bearer request, which has no session
	rule     string  // the line that decided
	route    string  // its pattern
	reason   string
	public   bool    // the line allows everybody
	degraded bool    // the store is silent; the session was known before
	lack     *lack   // what the answer to a refusal has to say besides
	named    *named  // whoever is known by grant
	shadow   *string // what the shadow rules would have decided, when that is something else
	client   string  // address for the audit log, once it was asked
	renewal  *session.Renewal
	answer   answer
	flight   flight
}

// grant says who is named: by a session or by a token; nil: nobody.
func (x *exchange) grant() *session.Grant {
	switch {
	case x.session != nil:
		return &x.session.Grant
	case x.caller != nil:
		return &x.caller.Grant
	}
	return nil
}

// refusal is why a request ends here. The zero refusal lets it go on.
type refusal struct {
	kind   Kind
	status int
	reason string // for the audit log: a fixed code
}

// asBrowsers returns an origin as browsers write it: lower case, without the scheme's own port (RFC 6454 section 6.2).
func asBrowsers(origin string) string {
	origin = strings.ToLower(origin)
	if scheme, _, _ := strings.Cut(origin, ":"); scheme == "https" {
		return strings.TrimSuffix(origin, ":443")
	}
	return strings.TrimSuffix(origin, ":80")
}

// connectionAddr is the address of the connection without its port.
func connectionAddr(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
