package gate

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// hsts is two years, the least that the preload list takes; without includeSubDomains, which is not ours to decide.
const hsts = "max-age=63072000"

// justHSTS is shared by all answers; it has no room for an append to write into.
var justHSTS = []string{hsts}

// answer is the ResponseWriter that the app writes to. It has the last look at the headers, whatever sends them: an explicit
// status, 1xx and 101 included, the first byte, a flush or a hijack. Unwrap keeps http.ResponseController working.
type answer struct {
	http.ResponseWriter
	x         *exchange
	hsts      bool
	committed bool
	switched  bool // the status was 101
	refused   bool // the session had ended before the app began to answer
}

func (a *answer) init(w http.ResponseWriter, x *exchange) {
	a.ResponseWriter, a.x = w, x
	a.hsts = !x.gate.noHSTS && x.r.TLS != nil && wantsHSTS(x.r.Host)
}

// wantsHSTS is false for hosts that HSTS does not apply to (RFC 6797 section 8.1.1) and for local ones, where it would shut out
// every other program on other ports of the same name.
func wantsHSTS(host string) bool {
	name, ok := hostName(host)
	name = strings.TrimSuffix(name, ".")
	if !ok || name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return false
	}
	if last := name[len(name)-1]; '0' <= last && last <= '9' || strings.IndexByte(name, ':') >= 0 {
		_, err := netip.ParseAddr(name)
		return err != nil
	}
	return true
}

func (a *answer) setHSTS(h http.Header) {
	if old := h["Strict-Transport-Security"]; a.hsts && (len(old) != 1 || old[0] != hsts) {
		h["Strict-Transport-Security"] = justHSTS
	}
}

// WriteHeader sends the status; the final one at most once.
func (a *answer) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		if a.x.flight.ended() {
			return
		}
		a.clean()
	} else if !a.commit() {
		return
	}
	a.switched = status == http.StatusSwitchingProtocols
	a.ResponseWriter.WriteHeader(status)
}

// Write sends the headers first when nothing has.
func (a *answer) Write(b []byte) (int, error) {
	if !a.commit() {
		return 0, errEnded
	}
	return a.ResponseWriter.Write(b)
}

// ReadFrom keeps the fast way from an upstream's connection to the client's.
func (a *answer) ReadFrom(src io.Reader) (int64, error) {
	if !a.commit() {
		return 0, errEnded
	}
	if to, ok := a.ResponseWriter.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{a.ResponseWriter}, src)
}

// FlushError is what http.ResponseController calls.
func (a *answer) FlushError() error {
	if !a.commit() {
		return errEnded
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush is for those who still ask for an http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() }

// Hijack hands out the connection; headers that were set so far are cleaned before. The connection of a session ends with it.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !a.commit() {
		return nil, nil, errEnded
	}
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil || a.x.grant() == nil {
		return conn, rw, err
	}
	return a.x.adopt(conn, rw)
}

// SetWriteDeadline is the app's until its session ends, whose deadline stays.
func (a *answer) SetWriteDeadline(at time.Time) error {
	return a.x.flight.unlessEnded(func() error { return http.NewResponseController(a.ResponseWriter).SetWriteDeadline(at) })
}

// SetReadDeadline: see SetWriteDeadline.
func (a *answer) SetReadDeadline(at time.Time) error {
	return a.x.flight.unlessEnded(func() error { return http.NewResponseController(a.ResponseWriter).SetReadDeadline(at) })
}

// Unwrap returns the writer below, for full duplex.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// commit makes the headers final. It is false when the session has ended meanwhile: nothing of the app's goes out then.
func (a *answer) commit() bool {
	switch {
	case a.committed:
		return !a.x.flight.ended()
	case a.refused:
		return false
	}
	a.clean()
	if a.x.grant() != nil {
		a.renew()
		a.refused = !a.x.flight.commit()
	}
	a.committed = !a.refused
	return a.committed
}

// finish cleans what an app can still send after its last byte: trailers, which are the headers of now. Nothing is committed
// here, since whoever called the gate may still answer in place of an app that did not.
func (a *answer) finish() {
	if !a.committed || a.trailers() {
		a.clean()
	}
}

// trailers reports whether the app announced trailers or has some unannounced.
func (a *answer) trailers() bool {
	h := a.Header()
	if len(h["Trailer"]) > 0 {
		return true
	}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// clean removes what an app must not say, in headers and in trailers (which net/http marks by a prefix): cookies under our names,
// identities, another Strict-Transport-Security.
func (a *answer) clean() {
	h := a.Header()
	for name, values := range h {
		bare := strings.TrimPrefix(name, http.TrailerPrefix)
		switch {
		case len(bare) == len("Set-Cookie") && strings.EqualFold(bare, "Set-Cookie"):
			keepForeign(h, name, values)
		case len(bare) == len("Strict-Transport-Security") && strings.EqualFold(bare, "Strict-Transport-Security"):
			if !a.x.gate.noHSTS && (!a.hsts || len(values) != 1 || values[0] != hsts || name != "Strict-Transport-Security") {
				delete(h, name)
			}
		case isIdentity(bare):
			delete(h, name)
		}
	}
	a.setHSTS(h)
}

// keepForeign drops the Set-Cookie lines that would plant one of our cookies.
func keepForeign(h http.Header, name string, lines []string) {
	own := 0
	for _, line := range lines {
		if session.IsOwnCookie(line) {
			own++
		}
	}
	if own == 0 {
		return
	}
	kept := make([]string, 0, len(lines)-own)
	for _, line := range lines {
		if !session.IsOwnCookie(line) {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(h, name)
		return
	}
	h[name] = kept
}

// renew keeps shared caches away from what a session or a token saw, and adds the renewed cookie, which a token has none of. An
// answer that the app marks public or immutable is left alone: a cookie in it would be handed to the next reader of the cache. A
// renewal that fails, or that takes too long, is no error of this request; the session goes on until its end.
func (a *answer) renew() {
	h := a.Header()
	shared, private := cacheability(h["Cache-Control"])
	switch {
	case a.x.glass() != nil: // what an emergency showed is not shown again when it is over
		h["Cache-Control"] = justNoStore
	case shared:
		return
	case private:
	case len(h["Cache-Control"]) == 0:
		h["Cache-Control"] = justPrivate
	default:
		h["Cache-Control"] = append(slices.Clip(h["Cache-Control"]), "private")
	}
	if a.x.renewal == nil {
		return
	}
	cookie, _, err := a.x.renewal.Wait(a.x.r.Context()) // at once, unless it was due and takes long
	if err == nil && cookie != nil {
		h["Set-Cookie"] = append(h["Set-Cookie"][:len(h["Set-Cookie"]):len(h["Set-Cookie"])], cookie.String())
	}
}

// justNoStore and justPrivate are shared by all answers that say no more; they have no room for an append to write into.
var (
	justNoStore = []string{"no-store"}
	justPrivate = []string{"private"}
)

// cacheability reads Cache-Control (RFC 9111 section 5.2.2).
func cacheability(lines []string) (shared, private bool) {
	for _, line := range lines {
		for directive := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(strings.Trim(directive, " \t"), "=")
			switch {
			case strings.EqualFold(name, "public"), strings.EqualFold(name, "immutable"):
				shared = true
			case strings.EqualFold(name, "private"), strings.EqualFold(name, "no-store"):
				private = true
			}
		}
	}
	return shared, private
}
