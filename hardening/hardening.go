// Package hardening keeps an application's password table worthless to whoever steals it: the secret goes through a slow
// hash and then through an HMAC under a pepper that the database does not hold. It is a library and a net/http handler.
//
// Call [NewRing] with the store and the live TLS keys, run [Ring.Follow] in a goroutine, then [New] with the ring and a
// [Limits], and [Service.Handle] for each request (or [Service.Protect] and [Service.Verify] without HTTP).
//
// It promises:
//   - a record verifies for its uid, context and ring only (an imported digest of the original form for its ring only: there
//     is no uid in it), and stays verifiable through every certificate renewal: the
//     TLS key wraps a ring of random peppers and is never itself the HMAC key (the pinned key of the original form is
//     SHA-256 of the PEM, which cannot be turned back into the TLS key);
//   - a ring that exists and cannot be opened is locked. Nothing ever makes a second ring over it, and no ring is made
//     without a live key to wrap it for, nor used before the store gave back what was written;
//   - no key, pepper, secret, token or uid in an error, a log line, an audit event or a printed value;
//   - bounded work: items, bytes, rounds, units of HMAC per second, failures per uid over all nodes, slow hashes and big
//     bodies at once;
//   - a set shows neither how many of its entries are real nor which one matched: as many HMACs, as many comparisons, sorted;
//   - a caller is judged by the addresses of its own connection (DESIGN.md, invariant 7), never by a header.
//
// It trusts the process it runs in, the store to be durable when it says so (and reads back all the same), and the facts
// about the connection that the caller collects in [loopback.Facts]. Whoever can change the store can destroy the ring, but can
// neither read it nor plant a key of his own in it; an old copy that is put in its place while we are down is refused by a node
// that has a [Mark].
//
// A record without the slow hash ([Item].Fast, "slow":false, and every set) is weaker: whoever has the table and the pepper
// guesses millions of passwords a second. It is right for what the application has made slow itself, argon2id or bcrypt output
// of which a whole table becomes records without asking anybody, and for the sets of gestures, where 4096 slow hashes would take
// a minute and a half. For a password as somebody typed it, leave the slow hash in.
//
// Failures are counted in the store, before a secret is compared, for each record of a uid and each source of it (see [Verification]): a success
// with another record of the same uid forgets none of them.
// While the store does not answer, each node counts by itself: n nodes then allow n times as many tries. Successes of the
// cheapest requests share one audit event a second, of which a kill -9 can lose the last; failures never do.
//
// It leaves to its caller: collecting the facts, telling the ring about renewals ([Ring.Sync] with the new key before it
// is served), keeping request lines out of access logs, and TLS 1.3 on the listener (checked here again).
//
// Standards: HMAC RFC 2104 with SHA-256, HKDF RFC 5869, Argon2id RFC 9106 (the OWASP minimum: 19 MiB, 2 passes), HPKE
// RFC 9180, AES-256-GCM SP 800-38D, PKCS#8 RFC 5958, bearer credentials RFC 6750 section 2.1, problems RFC 9457. A pepper is
// an addition to the slow hash as SP 800-63B-4 asks, not the hash.
package hardening

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
)

// Path is where the service answers; everything below it is the service's too.
const Path = "/hmac-service"

// Config is what a [Service] needs. Ring, Limits, Hosts, Facts and Audit are required, and so is one of Callers and
// MaxRounds: a service that nobody may call is a mistake of the configuration.
type Config struct {
	// Ring holds the peppers.
	Ring *Ring
	// Limits bounds the work; it may be shared by services of one ring, and outlives a reload of the configuration.
	Limits *Limits
	// Callers are the programs that may call. None: every request but the original form is answered 401.
	Callers loopback.Callers
	// MaxRounds switches the original GET form on and caps its rounds. 0: off. At most 1,000,000.
	MaxRounds int
	// Hosts are the names under which local callers may come, lower case, without port; "*.x" stands for one label.
	Hosts []string
	// Facts says what is known of the request's connection. What it cannot know it leaves zero, which refuses.
	Facts func(*http.Request) loopback.Facts
	// Audit takes one event for each failure; when it cannot, the caller gets 503.
	Audit audit.Recorder
	// Alarm is told of a burst of wrong secrets, at most once a minute. It must not wait for anything. Nil: nobody is told.
	Alarm func(Burst)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets reasons for the operator, never anything of a request but its reference; nil discards.
	Logger *slog.Logger
}

// Service answers requests. It is safe for concurrent use.
type Service struct {
	cfg       Config
	slots     *slots // of slow hashes
	batches   *slots // of big bodies
	macs      atomic.Pointer[macs]
	gather    gather
	strangers loopback.Strangers
	ops       *atomic.Int64 // tests count HMACs by it; nil: nobody counts
}

// maxRoundsCap bounds what an operator may configure: a million rounds are 0.15 s of one core.
const maxRoundsCap = 1_000_000

// New checks the configuration and returns the service. The ring need not be open yet.
func New(cfg Config) (*Service, error) {
	switch {
	case cfg.Ring == nil || cfg.Limits == nil || cfg.Facts == nil || cfg.Audit == nil:
		return nil, errors.New("making hmac service: Ring, Limits, Facts and Audit are required")
	case len(cfg.Hosts) == 0:
		return nil, errors.New("making hmac service: no host name is allowed")
	case cfg.MaxRounds < 0 || cfg.MaxRounds > maxRoundsCap:
		return nil, fmt.Errorf("making hmac service: max_rounds %d is not in 1..%d", cfg.MaxRounds, maxRoundsCap)
	case cfg.Callers.None() && cfg.MaxRounds == 0:
		return nil, errors.New("making hmac service: neither a credential nor the original form is configured")
	}
	if cfg.MaxRounds > 0 && !cfg.Ring.cfg.Compat {
		return nil, errors.New("making hmac service: the original form needs a ring that pins its key")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: cfg, slots: slowSlots, batches: batchSlots}, nil
}

// Owns reports whether the service would answer this path for a local caller.
func Owns(path string) bool { return loopback.Owns(Path, path) }
