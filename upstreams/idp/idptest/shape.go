package idptest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

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

// Bomb answers with a JSON object of the given size that is a thousand times
// smaller on its way, whatever the client said it can read.
func Bomb(e Endpoint, size int) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		fmt.Fprint(z, `{"filler":"`)
		block := bytes.Repeat([]byte("x"), 64<<10)
		for ; size > 0; size -= len(block) {
			if _, err := z.Write(block); err != nil {
				return
			}
		}
		fmt.Fprint(z, `"}`)
	})
}

// Trickle answers at once and never comes to an end: one byte in 20 ms.
func Trickle(e Endpoint) Fault {
	return replace(e, func(s *Server, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"filler":"`)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-s.done:
				return
			case <-tick.C:
				fmt.Fprint(w, "x")
				if http.NewResponseController(w).Flush() != nil {
					return
				}
			}
		}
	})
}

// CutOff promises more than it sends: the connection ends in the middle of an
// answer that would be good.
func CutOff(e Endpoint) Fault {
	return Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "4096")
		fmt.Fprint(w, `{"issuer":"`)
		http.NewResponseController(w).Flush() // an error here is a client that went away
		panic(http.ErrAbortHandler)
	})
}

// Shapes are answers of any shape that is not the right one, by name. To none of
// them a client may hang, grow, follow or send again.
func Shapes(e Endpoint) map[string]Fault {
	object := "application/json"
	return map[string]Fault{
		"HTML":                       Status(e, http.StatusOK),
		"HTML with the type of JSON": Text(e, object, "<h1>Something else</h1>"),
		"nothing":                    Text(e, object, ""),
		"null":                       Text(e, object, "null"),
		"an array":                   Text(e, object, `[{"issuer":"x"}]`),
		"an empty object":            Text(e, object, "{}"),
		"two objects":                Text(e, object, "{}{}"),
		"a thousand levels":          Text(e, object, strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat("}", 1000)),
		"not UTF-8":                  Text(e, object, "{\"issuer\":\"\xff\xfe\"}"),
		"2 MiB":                      Huge(e, 2<<20),
		"a bomb":                     Bomb(e, 64<<20),
		"rubbish that says gzip":     Replace(e, garbled),
		"a redirect within":          RedirectTo(e, "/elsewhere"),
		"a redirect to loopback":     RedirectTo(e, "http://127.0.0.1:1/"),
		"a redirect to another host": RedirectTo(e, "http://localhost:1/"),
		"cut before the answer":      Cut(e),
		"cut in the answer":          CutOff(e),
		"slow":                       Trickle(e),
		"no answer":                  Hang(e),
		"204":                        Replace(e, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		"404":                        Status(e, http.StatusNotFound),
		"429":                        Status(e, http.StatusTooManyRequests),
		"500":                        Status(e, http.StatusInternalServerError),
	}
}

func garbled(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Encoding", "gzip")
	fmt.Fprint(w, "{}")
}
