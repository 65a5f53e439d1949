package synthetic

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The forms in which the apps read and keep times: a day, and a minute as HTML's
// datetime-local input writes it. Both are UTC.
const (
	Day    = time.DateOnly
	Minute = "2006-01-02T15:04"
)

var funcs = template.FuncMap{
	"day": func(t time.Time) string { return t.UTC().Format("2 Jan 2006") },
	"at":  func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04") },
	"patient": func(id string) string {
		p, _ := FindPatient(id)
		return p.Name()
	},
}

// ReadJSON reads one JSON value from the body into v: content type
// application/json (415), no unknown member, nothing after it (400).
func ReadJSON(r *http.Request, v any) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return Refuse(http.StatusUnsupportedMediaType, "Send JSON with the content type application/json.")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("something follows the JSON value")
		}
	}
	var large *http.MaxBytesError
	if err == nil || errors.As(err, &large) {
		return err
	}
	return Refuse(http.StatusBadRequest, "The JSON text is not what is expected here: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// WriteJSON answers with a JSON value.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(raw, '\n')) // the client may have gone; there is nobody to tell
	return nil
}

// Index is what an app answers at /api/: what it is and what can be asked of it.
type Index struct {
	App    string   `json:"app"`
	Reads  []string `json:"reads"`  // paths for GET
	Writes []Write  `json:"writes"` // paths for POST
}

// Write is a path that takes a POST of JSON, with an example of it. An app's
// first one can be sent as it stands, again and again, with p1001 for {id}.
type Write struct {
	Path    string `json:"path"`
	Example any    `json:"example,omitempty"`
}

// Read registers GET on a path of the JSON API. get returns what to answer.
func (s *Site) Read(path string, get func(*http.Request) (any, error)) {
	s.Handle("GET "+path, func(w http.ResponseWriter, r *http.Request) error {
		v, err := get(r)
		if err != nil {
			return err
		}
		return WriteJSON(w, http.StatusOK, v)
	})
}

// Create registers POST on a path of the JSON API. make takes the decoded body
// and returns the new record and its address; the answer is 201. With an empty
// address, because a record was changed and none made, it is 200.
func Create[In any](s *Site, path string, limit int64, make func(*http.Request, In) (location string, v any, err error)) {
	s.HandleLimit("POST "+path, limit, func(w http.ResponseWriter, r *http.Request) error {
		var in In
		if err := ReadJSON(r, &in); err != nil {
			return err
		}
		location, v, err := make(r, in)
		if err != nil {
			return err
		}
		if location == "" {
			return WriteJSON(w, http.StatusOK, v)
		}
		w.Header().Set("Location", location)
		return WriteJSON(w, http.StatusCreated, v)
	})
}

// Form registers POST of an HTML form. take makes the change and returns the
// page to go on to.
func (s *Site) Form(path string, take func(*http.Request) (next string, err error)) {
	s.Handle("POST "+path, func(w http.ResponseWriter, r *http.Request) error {
		if err := ReadForm(r); err != nil {
			return err
		}
		next, err := take(r)
		if err != nil {
			return err
		}
		return Done(w, r, next)
	})
}

// Done sends a browser on to a page after a form was taken (303), so that
// reloading the page does not send the form again.
func Done(w http.ResponseWriter, r *http.Request, path string) error {
	http.Redirect(w, r, path, http.StatusSeeOther)
	return nil
}

// ReadForm parses an HTML form in the body.
func ReadForm(r *http.Request) error {
	var large *http.MaxBytesError
	if err := r.ParseForm(); errors.As(err, &large) {
		return err
	} else if err != nil {
		return Refuse(http.StatusBadRequest, "The form could not be read.")
	}
	return nil
}

// Text trims and checks a text that a person wrote: not empty, at most max
// characters, valid UTF-8, no control characters but line breaks and tabs.
func Text(field, value string, max int) (string, error) {
	value = strings.TrimSpace(strings.ReplaceAll(value, "\r\n", "\n"))
	switch {
	case value == "":
		return "", Refuse(http.StatusUnprocessableEntity, "Please fill in: %s.", field)
	case utf8.RuneCountInString(value) > max:
		return "", Refuse(http.StatusUnprocessableEntity, "Please shorten: %s (at most %d characters).", field, max)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }):
		return "", Refuse(http.StatusUnprocessableEntity, "There are characters that cannot be kept in: %s.", field)
	}
	return value, nil
}

// Line is Text for one line.
func Line(field, value string, max int) (string, error) {
	value, err := Text(field, value, max)
	if err == nil && strings.ContainsAny(value, "\n\t") {
		return "", Refuse(http.StatusUnprocessableEntity, "Please write on one line: %s.", field)
	}
	return value, err
}

// NeedPatient returns the patient of an identifier that came with a request, or
// a Problem with the given status.
func NeedPatient(id string, status int) (Patient, error) {
	p, ok := FindPatient(id)
	if !ok {
		return p, Refuse(status, "There is no such patient.")
	}
	return p, nil
}
