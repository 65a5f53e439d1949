package envelope

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Refusals of the service itself. They stand beside the package's own errors, so that one table maps everything to HTTP.
var (
	errNotFound    = errors.New("nothing is here")
	errCredential  = errors.New("the credential is missing or wrong")
	errNoToken     = errors.New("the credential cannot be checked")
	errMethod      = errors.New("this method is not one of the endpoint")
	errContentType = errors.New("the content type is not the one of the endpoint")
	errInput       = errors.New("not acceptable")
	errTooLarge    = errors.New("too large")
	errBusy        = errors.New("too many requests at once")
	errAudit       = errors.New("the event could not be recorded")
)

// refusal is one answer that is not a success.
type refusal struct {
	status int
	kind   string // last part of urn:anteroom:problem:
	reason string // fixed code in the audit log
	after  time.Duration
}

// refusalFor is the service's one place that maps errors to HTTP. What it does not know is a fault of ours: 503, never a
// success (DESIGN.md, invariant 1).
//
//	404 wrong connection, path    401 credential              405 method       415 content type    413 body or items
//	400 input                     422 does not open   429 limit   503 master key, audit, token file, too many at once
func refusalFor(err error) refusal {
	switch {
	case errors.Is(err, errNotFound):
		return refusal{http.StatusNotFound, "not-found", "not-found", 0}
	case errors.Is(err, errCredential):
		return refusal{http.StatusUnauthorized, "credential", "credential", 0}
	case errors.Is(err, errMethod):
		return refusal{http.StatusMethodNotAllowed, "method", "method", 0}
	case errors.Is(err, errContentType):
		return refusal{http.StatusUnsupportedMediaType, "content-type", "content-type", 0}
	case errors.Is(err, errLimited):
		after := time.Second
		if d := (delayError{}); errors.As(err, &d) {
			after = max(d.after, after)
		}
		return refusal{http.StatusTooManyRequests, "too-many", "limit", after}
	case errors.Is(err, errTooLarge):
		return refusal{http.StatusRequestEntityTooLarge, "too-large", "too-large", 0}
	case errors.Is(err, errInput), errors.Is(err, errSource):
		return refusal{http.StatusBadRequest, "input", "input", 0}
	case errors.Is(err, errAudit):
		return refusal{http.StatusServiceUnavailable, "unavailable", "audit", time.Second}
	case errors.Is(err, errBusy):
		return refusal{http.StatusServiceUnavailable, "unavailable", "busy", time.Second}
	case errors.Is(err, errNoToken):
		return refusal{http.StatusServiceUnavailable, "unavailable", "token-file", time.Second}
	case errors.Is(err, ErrUnavailable):
		return refusal{http.StatusServiceUnavailable, "unavailable", "master.unavailable", 5 * time.Second}
	case errors.Is(err, ErrRefused):
		return refusal{http.StatusServiceUnavailable, "unavailable", "master.refused", time.Minute}
	case errors.Is(err, ErrCondemned):
		return refusal{http.StatusUnprocessableEntity, "condemned", "condemned", 0}
	case errors.Is(err, ErrSealed):
		return refusal{http.StatusUnprocessableEntity, "sealed", "sealed", 0}
	}
	return refusal{http.StatusServiceUnavailable, "unavailable", "fault", time.Second}
}

// detailFor is the sentence for the caller, a program on this host whose author reads it: what to change, no internals.
func detailFor(err error) string {
	switch known := refusalFor(err); {
	case errors.Is(err, errInput), errors.Is(err, errTooLarge):
		return err.Error() // made by us from fixed words and bounds
	case known.reason == "sealed":
		return "it does not open: it was changed or cut, or sealed for another tenant, purpose or id, or its key was destroyed"
	case known.reason == "condemned":
		return "its key is condemned and opens nothing; reseal it"
	case known.reason == "master.unavailable":
		return "the master key cannot be reached at the moment"
	case known.reason == "master.refused":
		return "the master key refuses; the log of the service says why"
	}
	for _, known := range []error{errNotFound, errCredential, errNoToken, errMethod, errContentType, errSource, errBusy, errLimited, errAudit} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "the service cannot answer at the moment"
}

// writeProblem answers with RFC 9457 problem details.
func writeProblem(w http.ResponseWriter, r refusal, detail, ref string) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	noStore(h)
	if r.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="envelope-service"`) // RFC 9110 section 11.6.1
	}
	if r.after > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.after.Seconds()))))
	}
	w.WriteHeader(r.status)
	problem := map[string]any{"type": "urn:anteroom:problem:" + r.kind, "title": http.StatusText(r.status), "status": r.status, "detail": detail}
	if ref != "" {
		problem["ref"] = ref
	}
	_ = json.NewEncoder(w).Encode(problem) // the client may have gone; there is nobody to tell
}

// noStore keeps an answer out of every cache; what was opened is for one caller.
func noStore(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}
