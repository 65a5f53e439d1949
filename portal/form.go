package portal

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/anteroom-proxy/anteroom/session"
)

// maxForm bounds the body of a form of ours, in bytes.
const maxForm = 1 << 10

// ownForm reads a form that one of our pages sent, from somebody who is signed
// in: its fields, exactly those that are named, and the session. Otherwise it
// answers and returns nil. Back is the page below the prefix to come back to
// after signing in; the form itself is not sent once more then.
func (p *Portal) ownForm(w http.ResponseWriter, r *http.Request, back string, names ...string) (map[string]string, *session.Session) {
	if !fromOurPage(r) {
		p.foreignSignOut(w, r)
		return nil, nil
	}
	form, e := readForm(w, r, names...)
	if e != nil {
		p.showError(w, r, e, "", errorLinks{})
		return nil, nil
	}
	return form, p.current(w, r, back)
}

// readForm reads a form of ours. Each named field stands once, and there are no
// others.
func readForm(w http.ResponseWriter, r *http.Request, names ...string) (map[string]string, *errorPage) {
	values, e := readBody(w, r, maxForm)
	if e != nil {
		return nil, e
	}
	if len(values) != len(names) {
		return nil, pageForm
	}
	form := make(map[string]string, len(names))
	for _, name := range names {
		if len(values[name]) != 1 {
			return nil, pageForm
		}
		form[name] = values[name][0]
	}
	return form, nil
}

// readBody reads a form as browsers and programs send it by default. Other kinds
// are not guessed at: text/plain and multipart are what a foreign page's form
// could use to look like something else (S6).
func readBody(w http.ResponseWriter, r *http.Request, most int64) (url.Values, *errorPage) {
	kind, _, err := mime.ParseMediaType(single(r.Header["Content-Type"]))
	if err != nil || kind != "application/x-www-form-urlencoded" || len(r.Header["Content-Encoding"]) > 0 {
		return nil, pageMediaType
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, pageFormSize
	}
	if err != nil {
		return nil, pageForm
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, pageForm
	}
	return values, nil
}
