package portal

import (
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

const (
	// lastCookie names, sealed, the sign-in that this browser had last. The
	// session's own cookies go when the browser is closed; without this one, a
	// sign-in that was ended at another site or place could not be told from one
	// that was not.
	lastCookie = "__Host-anteroom-last"

	// lastKnown is for how long after a sign-in's absolute end it is known whether
	// somebody ended it (session.Manager.Revoked).
	lastKnown = 24 * time.Hour
)

// remember leaves the name of a sign-in with the browser. It opens nothing, and
// is no reason to fail: whoever comes without it is judged by the other cookies.
func (p *Portal) remember(w http.ResponseWriter, r *http.Request, s *session.Session) {
	text, err := p.sealJSON(r.Context(), labelLast, s.ID)
	if err != nil {
		p.log.Warn("the browser's last sign-in is not remembered", "error", err)
		return
	}
	http.SetCookie(w, ownCookie(lastCookie, text, s.Ends.Add(lastKnown).Sub(p.now())))
}

// mustPrompt reports whether the next sign-in of this browser has to ask who it
// is: somebody signed out of it, or its last sign-in was ended by somebody, at
// another site or place, even when the browser was closed since. What ended by
// time does not count.
func (p *Portal) mustPrompt(r *http.Request) bool {
	if hasCookie(r, promptCookie) || p.ended(r) {
		return true
	}
	seen := false
	for name, text := range cookies(r) {
		if name != lastCookie {
			continue
		}
		var sid string
		if seen || p.openJSON(r.Context(), labelLast, text, &sid) != nil || p.sessions.Revoked(sid) {
			return true
		}
		seen = true
	}
	return false
}
