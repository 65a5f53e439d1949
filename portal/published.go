package portal

import (
	"net/http"

	"github.com/anteroom-proxy/anteroom/identity"
)

// published is the address of the public keys with which a way to sign in proves
// to its provider who we are (RFC 7523, section 2.2): there is none where it has
// none.
func (p *Portal) published(s identity.Source) (endpoint, bool) {
	k, ok := s.(identity.Published)
	if !ok {
		return endpoint{}, false
	}
	return endpoint{p.clientKeys(s.Name(), k), getHead}, true
}

func (p *Portal) clientKeys(name string, k identity.Published) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		set, err := k.JWKS(r.Context())
		switch {
		case err != nil:
			p.log.Error("the keys of a client cannot be published", "source", name, "error", err)
			p.showError(w, r, pageUnavailable, "", errorLinks{})
			return
		case set == nil:
			p.showError(w, r, pageNotFound, "", errorLinks{})
			return
		}
		writeKeys(w, set)
	}
}

// writeKeys publishes a key set (RFC 7517, section 5).
func writeKeys(w http.ResponseWriter, set []byte) {
	pageHeaders(w.Header())
	w.Header().Set("Content-Type", "application/jwk-set+json")
	// A minute: an operator's new key signs two minutes after it stands here.
	w.Header().Set("Cache-Control", "public, max-age=60")
	w.Write(set)
}

// jwks publishes the keys that sign sessions.
func (p *Portal) jwks(w http.ResponseWriter, r *http.Request) {
	writeKeys(w, p.sessions.JWKS())
}
