package portal

import (
	"net/http"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
)

// endpoint is what answers at one address, with which methods.
type endpoint struct {
	answer  http.HandlerFunc
	methods []string
}

// HEAD is not among the methods where an answer changes something: programs that
// look at links ahead of people send it.
var (
	onlyGet  = []string{http.MethodGet}
	onlyPost = []string{http.MethodPost}
	getHead  = []string{http.MethodGet, http.MethodHead}
)

// ServeHTTP answers a request below the prefix; anything else gets 404. Paths
// are compared as they were sent: another spelling is another path.
//
//	<prefix>                    who you are, sign out, switch user
//	<prefix>login?return_to=    choose a way to sign in; a single one is begun at once
//	<prefix>login/<source>      begin one way to sign in
//	<prefix>login/find          POST finds the way to sign in of an e-mail domain
//	<prefix>callback/<source>   where its provider sends the browser back to
//	<prefix>callback/portal     where the one portal sends the browser back to, see below
//	<prefix>logout              GET asks, POST signs out
//	<prefix>logout/<source>     leads on to its provider's own sign-out, with a ticket
//	<prefix>signed-out          where that sends the browser back to
//	<prefix>backchannel/<source> where its provider tells of sessions that it ended
//	<prefix>switch              POST signs out and goes to the sign-in page
//	<prefix>sessions            where the account is signed in
//	<prefix>sessions/end        POST ends one sign-in of the account, sessions/end-all all
//	<prefix>move                asks whether to move a session here, when the role allows no more; POST moves
//	<prefix>emergency?return_to= the form for emergency access to a page; POST begins it
//	<prefix>emergency/begun     says that it has begun, and leads to the record
//	<prefix>emergency/end       POST ends one before its time
//	<prefix>session             the session as JSON
//	<prefix>jwks.json           the keys that sign sessions
//	<prefix>jwks/<source>.json  the keys with which we sign in at its provider
//	<prefix>static/             style sheet and logo
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !validHost(r.Host) {
		p.showError(w, r, pageMisdirected, "", errorLinks{})
		return
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), p.prefix)
	if !ok {
		p.showError(w, r, pageNotFound, "", errorLinks{})
		return
	}
	e, ok := p.find(r, rest)
	switch {
	case !ok:
		p.showError(w, r, pageNotFound, "", errorLinks{})
	case !slices.Contains(e.methods, r.Method):
		w.Header().Set("Allow", strings.Join(e.methods, ", "))
		p.showError(w, r, pageMethod, "", errorLinks{})
	default:
		e.answer(w, r)
	}
}

// find is what answers at a path below the prefix.
func (p *Portal) find(r *http.Request, rest string) (endpoint, bool) {
	if e, ok := p.own(rest); ok {
		return e, true
	}
	head, tail, _ := strings.Cut(rest, "/")
	switch {
	case head == "static" && assets[tail] != nil:
		return endpoint{assets[tail].serve, getHead}, true
	case rest == "callback/"+handOffName && p.away(r):
		return endpoint{p.arrive, onlyGet}, true
	case rest == "login/find" && r.Method == http.MethodPost && p.findsRealms(r):
		return endpoint{p.findRealm, onlyPost}, true
	}
	if head == "jwks" {
		if tail, ok := strings.CutSuffix(tail, ".json"); ok {
			return p.published(p.provider(r, tail))
		}
		return endpoint{}, false
	}
	if s := p.provider(r, tail); s != nil {
		return p.ofSource(head, s)
	}
	return endpoint{}, false
}

// own are the addresses that every host has.
func (p *Portal) own(rest string) (endpoint, bool) {
	switch rest {
	case "":
		return endpoint{p.who, getHead}, true
	case "login":
		return endpoint{p.login, onlyGet}, true
	case "logout":
		return endpoint{p.logout, []string{http.MethodGet, http.MethodHead, http.MethodPost}}, true
	case "signed-out":
		return endpoint{p.returned, onlyGet}, true
	case "switch":
		return endpoint{p.switchUser, onlyPost}, true
	case "sessions":
		return endpoint{p.ownSessions, getHead}, true
	case "sessions/end":
		return endpoint{p.endOne, onlyPost}, true
	case "sessions/end-all":
		return endpoint{p.endAll, onlyPost}, true
	case "move":
		return endpoint{p.move, []string{http.MethodGet, http.MethodPost}}, true
	case "emergency", "emergency/begun", "emergency/end":
		return p.ofEmergency(rest)
	case "session":
		return endpoint{p.session, getHead}, true
	case "jwks.json":
		return endpoint{p.jwks, getHead}, true
	}
	return endpoint{}, false
}

// ofEmergency are the addresses of emergency access, where there is any.
func (p *Portal) ofEmergency(rest string) (endpoint, bool) {
	if !p.offersEmergency() {
		return endpoint{}, false
	}
	switch rest {
	case "emergency":
		return endpoint{func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				p.beginEmergency(w, r)
				return
			}
			p.askEmergency(w, r)
		}, []string{http.MethodGet, http.MethodHead, http.MethodPost}}, true
	case "emergency/begun":
		return endpoint{p.emergencyBegun, getHead}, true
	default:
		return endpoint{p.endEmergency, onlyPost}, true
	}
}

// ofSource are the addresses of one way to sign in, where this host offers it.
func (p *Portal) ofSource(head string, s identity.Source) (endpoint, bool) {
	switch head {
	case "login":
		return endpoint{p.loginSource(s), onlyGet}, true
	case "callback":
		if p.posted(s.Name()) {
			return endpoint{p.callbackOrPost(s), []string{http.MethodGet, http.MethodPost}}, true
		}
		return endpoint{p.callback(s), onlyGet}, true
	case "backchannel":
		if n, ok := s.(identity.Notified); ok {
			return endpoint{p.backchannel(s, n), onlyPost}, true
		}
	case "logout":
		if d, ok := s.(identity.Departer); ok {
			return endpoint{p.leave(s, d), onlyGet}, true
		}
	}
	return endpoint{}, false
}
