package hardening

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// What can go wrong, for callers of the library. refusalFor below turns it into answers.
var (
	// ErrLocked says that the ring exists and cannot be opened. The log holds the remedy; nothing is made anew.
	ErrLocked = errors.New("the ring is locked")
	// ErrWaiting says that the ring cannot be used yet or could not be brought up to date: no TLS key is visible, or the
	// store does not answer.
	ErrWaiting = errors.New("the ring is not ready")
	// ErrInput says that what the caller sent is not acceptable. Its text never repeats what was sent.
	ErrInput = errors.New("not acceptable")
	// ErrForeign says that a record is from another ring or needs a pepper that this ring does not have. It is an error and
	// not "wrong password": the application would lock its users out for an operator's mistake.
	ErrForeign = errors.New("the record belongs to another ring")
	// ErrLimited says that the units of this second, or the failures of this uid, are used up.
	ErrLimited = errors.New("too many requests")
	// ErrBusy says that all work that memory allows is under way and the queue is full.
	ErrBusy = errors.New("too much at once")
)

// errNoKey is the one kind of ErrWaiting that time alone heals at a start.
var errNoKey = fmt.Errorf("%w: no TLS key is visible", ErrWaiting)

// delayError carries when to try again.
type delayError struct {
	error
	after time.Duration
}

func (e delayError) Unwrap() error { return e.error }

// Refusals of the handler itself. They stand beside the sentinels so that one table maps everything to HTTP.
var (
	errNotFound    = errors.New("nothing is here")
	errCredential  = errors.New("the credential is missing or wrong")
	errNoToken     = errors.New("the credential cannot be checked")
	errMethod      = errors.New("this method is not one of the endpoint")
	errContentType = errors.New("the content type is not application/json")
	errTooLarge    = errors.New("too large")
	errAudit       = errors.New("the event could not be recorded")
)

// refusal is one answer that is not a success.
type refusal struct {
	status int
	kind   string // last part of urn:anteroom:problem:
	reason string // fixed code in the audit log
	after  time.Duration
}

// refusalFor is the package's one place that maps errors to HTTP. What it does not know is a fault of ours: 503, never a
// success (DESIGN.md, invariant 1).
//
//	404 wrong connection, path        401 credential          405 method          415 content type
//	413 body or items                 400 input, foreign ring 429 units, failures 503 ring, slow hashes, audit, token file
func refusalFor(err error) refusal {
	var d delayError
	after := time.Second
	if errors.As(err, &d) {
		after = d.after
	}
	switch {
	case errors.Is(err, errNotFound):
		return refusal{http.StatusNotFound, "not-found", "not-found", 0}
	case errors.Is(err, errCredential):
		return refusal{http.StatusUnauthorized, "credential", "credential", 0}
	case errors.Is(err, errMethod):
		return refusal{http.StatusMethodNotAllowed, "method", "method", 0}
	case errors.Is(err, errContentType):
		return refusal{http.StatusUnsupportedMediaType, "content-type", "content-type", 0}
	case errors.Is(err, errTooLarge):
		return refusal{http.StatusRequestEntityTooLarge, "too-large", "too-large", 0}
	case errors.Is(err, ErrForeign):
		return refusal{http.StatusBadRequest, "foreign-ring", "foreign-ring", 0}
	case errors.Is(err, ErrInput):
		return refusal{http.StatusBadRequest, "input", "input", 0}
	case errors.Is(err, ErrLimited):
		return refusal{http.StatusTooManyRequests, "too-many", "limit", after}
	case errors.Is(err, ErrLocked):
		return refusal{http.StatusServiceUnavailable, "locked", "ring.locked", followTrouble}
	case errors.Is(err, ErrWaiting):
		return refusal{http.StatusServiceUnavailable, "unavailable", "ring.waiting", time.Second}
	case errors.Is(err, ErrBusy):
		return refusal{http.StatusServiceUnavailable, "unavailable", "busy", time.Second}
	case errors.Is(err, errNoToken):
		return refusal{http.StatusServiceUnavailable, "unavailable", "token-file", time.Second}
	case errors.Is(err, errAudit):
		return refusal{http.StatusServiceUnavailable, "unavailable", "audit", time.Second}
	}
	return refusal{http.StatusServiceUnavailable, "unavailable", "fault", time.Second}
}

// detailFor is the sentence for the caller, a program on this host whose author reads it: what to change, no internals.
func detailFor(err error) string {
	for _, known := range []error{errNotFound, errCredential, errMethod, errContentType, errNoToken, errAudit, ErrLocked, ErrBusy, ErrLimited} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if errors.Is(err, ErrInput) || errors.Is(err, ErrForeign) || errors.Is(err, errTooLarge) {
		return err.Error() // made by us from fixed words and bounds
	}
	return ErrWaiting.Error()
}

// writeProblem answers with RFC 9457 problem details.
func writeProblem(w http.ResponseWriter, r refusal, detail, ref string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	noStore(h)
	if r.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="hmac-service"`) // RFC 9110 section 11.6.1
	}
	if r.after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.after.Seconds()))))
	}
	w.WriteHeader(r.status)
	problem := map[string]any{"type": "urn:anteroom:problem:" + r.kind, "title": http.StatusText(r.status), "status": r.status, "detail": detail}
	if ref != "" {
		problem["ref"] = ref
	}
	json.NewEncoder(w).Encode(problem)
}

// noStore keeps an answer out of every cache; digests and records are for one caller.
func noStore(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}
