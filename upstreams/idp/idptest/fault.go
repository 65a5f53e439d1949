package idptest

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Fault changes what the server does. Several add up, in their order.
type Fault func(*faults)

type faults struct {
	metadata, keys, userinfo, token []func(map[string]any)
	response                        []func(url.Values)
	header, claims                  []func(map[string]any)
	payload, compact                []func(string) string
	replace                         map[Endpoint]func(*Server, http.ResponseWriter, *http.Request)
	alg                             string
	rotate                          bool
}

// Metadata changes the discovery document.
func Metadata(change func(map[string]any)) Fault {
	return func(f *faults) { f.metadata = append(f.metadata, change) }
}

// Keys changes the key set; its member "keys" is a []map[string]any.
func Keys(change func(map[string]any)) Fault {
	return func(f *faults) { f.keys = append(f.keys, change) }
}

// Response changes the parameters that the browser carries back to the client.
func Response(change func(url.Values)) Fault {
	return func(f *faults) { f.response = append(f.response, change) }
}

// Header changes the ID token's header before it is signed.
func Header(change func(map[string]any)) Fault {
	return func(f *faults) { f.header = append(f.header, change) }
}

// Claims changes the ID token's claims before it is signed.
func Claims(change func(map[string]any)) Fault {
	return func(f *faults) { f.claims = append(f.claims, change) }
}

// Payload changes the text of the ID token's claims before it is signed, for
// what a map cannot hold: duplicate members, trailing text.
func Payload(change func(string) string) Fault {
	return func(f *faults) { f.payload = append(f.payload, change) }
}

// Compact changes the signed ID token.
func Compact(change func(string) string) Fault {
	return func(f *faults) { f.compact = append(f.compact, change) }
}

// TokenAnswer changes the token endpoint's answer; "id_token" in it is final.
func TokenAnswer(change func(map[string]any)) Fault {
	return func(f *faults) { f.token = append(f.token, change) }
}

// UserInfo changes the userinfo answer.
func UserInfo(change func(map[string]any)) Fault {
	return func(f *faults) { f.userinfo = append(f.userinfo, change) }
}

// SetClaim gives an ID token's claim a value; DropClaims takes claims out.
func SetClaim(name string, value any) Fault {
	return Claims(func(c map[string]any) { c[name] = value })
}

// DropClaims takes claims out of ID tokens; userinfo keeps them.
func DropClaims(names ...string) Fault {
	return Claims(func(c map[string]any) {
		for _, name := range names {
			delete(c, name)
		}
	})
}

// SignWith makes ID tokens with another algorithm than RS256: one of RS256,
// RS384, RS512, PS256, ES256, ES384, EdDSA (a key of that algorithm is published
// from now on), "none", or HS256, keyed with the text of the RSA public key.
func SignWith(alg string) Fault { return func(f *faults) { f.alg = alg } }

// RotateBeforeSigning replaces all keys each time an ID token is about to be
// signed.
func RotateBeforeSigning() Fault { return func(f *faults) { f.rotate = true } }

// Replace answers an endpoint in another way altogether.
func Replace(e Endpoint, handler http.HandlerFunc) Fault {
	return replace(e, func(_ *Server, w http.ResponseWriter, r *http.Request) { handler(w, r) })
}

func replace(e Endpoint, handler func(*Server, http.ResponseWriter, *http.Request)) Fault {
	return func(f *faults) {
		if f.replace == nil {
			f.replace = map[Endpoint]func(*Server, http.ResponseWriter, *http.Request){}
		}
		f.replace[e] = handler
	}
}

// Status answers with a status and a page of HTML.
func Status(e Endpoint, status int) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprint(w, "<h1>Something else</h1>")
	})
}

// Text answers 200 with the given content.
func Text(e Endpoint, contentType, body string) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, body)
	})
}

// Hang answers nothing until the client gives up.
func Hang(e Endpoint) Fault {
	return replace(e, func(s *Server, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	})
}

// Huge answers with a JSON object of about the given size in bytes.
func Huge(e Endpoint, size int) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"filler":"%s"}`, strings.Repeat("x", size))
	})
}

// RedirectTo sends the request on, method and body kept.
func RedirectTo(e Endpoint, address string) Fault {
	return Replace(e, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, address, http.StatusTemporaryRedirect)
	})
}

// Cut resets the connection after the request was read.
func Cut(e Endpoint) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		if tcp, ok := connection.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		connection.Close()
	})
}

// GoTo is a handler for [Replace] that redirects to a path of the provider.
func GoTo(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, path, http.StatusFound) }
}
