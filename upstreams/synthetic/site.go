package synthetic

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
)

//go:embed layout.html style.css
var look embed.FS

// FormLimit bounds the body of an ordinary request, in bytes.
const FormLimit = 64 << 10

// Link is an entry of a site's navigation.
type Link struct{ Path, Text string }

// Site is one app: routes, and the frame around its pages. It is made by
// NewSite and serves as soon as its routes are there.
type Site struct {
	name, class, tagline string
	nav                  []Link
	notices              map[string]string
	pages                map[string]*template.Template
	mux                  *http.ServeMux
	log                  *slog.Logger
}

// SiteConfig says how an app looks.
type SiteConfig struct {
	Name    string            // as people read it
	Class   string            // short name: CSS class
	Tagline string            // one line below the name
	Nav     []Link            // without the home page
	Pages   fs.FS             // *.html, each defining "content"; part-*.html are for all
	Funcs   template.FuncMap  // further template functions
	Notices map[string]string // what ?done=KEY says at the top of a page
	Logger  *slog.Logger      // nil: discard
}

// Page is what a handler gives to Render.
type Page struct {
	Status int    // 0: 200
	Name   string // file in Pages without .html
	Title  string
	Alert  string // something that went wrong, read out at once
	Notice string // something that went well; "": by ?done=
	Data   any
}

// frame is what the layout sees.
type frame struct {
	Page
	App, Class, Tagline, Greeting, Path string
	Nav                                 []Link
}

// NewSite parses the pages and answers /style.css.
func NewSite(c SiteConfig) (*Site, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Site{name: c.Name, class: c.Class, tagline: c.Tagline, notices: c.Notices, log: c.Logger,
		nav: append([]Link{{"/", "Home"}}, c.Nav...), pages: map[string]*template.Template{}, mux: http.NewServeMux()}
	layout, err := template.New("layout.html").Funcs(funcs).Funcs(c.Funcs).ParseFS(look, "layout.html")
	if err != nil {
		return nil, fmt.Errorf("parsing the layout: %w", err)
	}
	if err := s.parse(layout, c.Pages); err != nil {
		return nil, err
	}
	s.pages["error"] = layout // after parse: a template that ran cannot be cloned
	s.Handle("GET /style.css", func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "public, max-age=300")
		http.ServeFileFS(w, r, look, "style.css")
		return nil
	})
	return s, nil
}

// parse makes one template set a page, since each defines "content".
func (s *Site) parse(layout *template.Template, pages fs.FS) error {
	files, err := fs.Glob(pages, "*.html")
	if err != nil {
		return fmt.Errorf("listing pages: %w", err)
	}
	for _, f := range files {
		if name, ok := strings.CutPrefix(f, "part-"); ok {
			if _, err := layout.ParseFS(pages, f); err != nil {
				return fmt.Errorf("parsing part %s: %w", name, err)
			}
		}
	}
	for _, f := range files {
		if strings.HasPrefix(f, "part-") {
			continue
		}
		t, err := layout.Clone()
		if err == nil {
			t, err = t.ParseFS(pages, f)
		}
		if err != nil {
			return fmt.Errorf("parsing page %s: %w", f, err)
		}
		s.pages[strings.TrimSuffix(f, ".html")] = t
	}
	return nil
}

// Handle registers a route in the syntax of http.ServeMux. An error that the
// handler returns becomes a page, or JSON below /api/. Bodies above FormLimit
// are refused with 413.
func (s *Site) Handle(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	s.HandleLimit(pattern, FormLimit, h)
}

// HandleLimit is Handle with another bound on the body, in bytes.
func (s *Site) HandleLimit(pattern string, limit int64, h func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		w.Header().Set("Cache-Control", "no-store")
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// ServeHTTP answers one request. What no route takes gets 404 or 405 in the
// form of the site instead of net/http's plain line.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	p := probe{header: http.Header{}}
	h.ServeHTTP(&p, r)
	if p.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", p.header.Get("Allow"))
		s.fail(w, r, Refuse(p.status, "This address does not take %s requests.", r.Method))
		return
	}
	s.fail(w, r, Refuse(http.StatusNotFound, "There is nothing at this address."))
}

// probe learns what net/http would answer, and drops the answer.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// Render writes a page. It is made whole before the first byte is sent, so that
// an error in a template never leaves half a page.
func (s *Site) Render(w http.ResponseWriter, r *http.Request, p Page) error {
	t, ok := s.pages[p.Name]
	if !ok {
		return fmt.Errorf("rendering: no page %q", p.Name)
	}
	if p.Status == 0 {
		p.Status = http.StatusOK
	}
	if p.Notice == "" && p.Alert == "" {
		p.Notice = s.notices[r.URL.Query().Get("done")]
	}
	f := frame{Page: p, App: s.name, Class: s.class, Tagline: s.tagline, Nav: s.nav, Path: r.URL.Path, Greeting: r.Header.Get("Remote-User")}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "layout.html", f); err != nil {
		return fmt.Errorf("rendering page %s: %w", p.Name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(p.Status)
	_, err := w.Write(b.Bytes())
	if err != nil {
		s.log.Debug("sending a page", "err", err)
	}
	return nil
}

// Problem is an error whose text is meant for the person in front of the app.
type Problem struct {
	Status int
	Text   string
}

func (p *Problem) Error() string { return p.Text }

// Refuse makes a Problem.
func Refuse(status int, format string, args ...any) error {
	return &Problem{status, fmt.Sprintf(format, args...)}
}

// titles are the headings of error pages, for people.
var titles = map[int]string{
	http.StatusNotFound:              "Not found",
	http.StatusConflict:              "This is not possible",
	http.StatusRequestEntityTooLarge: "Too large",
	http.StatusUnprocessableEntity:   "Please check what you entered",
	http.StatusTooManyRequests:       "Please wait",
	http.StatusInternalServerError:   "Something went wrong",
	http.StatusServiceUnavailable:    "Not available just now",
}

// fail is the one place where an error becomes an answer. The text of an error
// that is not a Problem goes to the log only.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	var p *Problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &large):
		p = &Problem{http.StatusRequestEntityTooLarge, "This is larger than the app accepts."}
	default:
		s.log.Error("answering a request", "app", s.class, "method", r.Method, "err", err)
		p = &Problem{http.StatusInternalServerError, "Something went wrong in the app, and what you did was not saved. Please try again later."}
	}
	if r.URL.Path == "/api" || strings.HasPrefix(r.URL.Path, "/api/") {
		WriteJSON(w, p.Status, map[string]string{"error": p.Text})
		return
	}
	title, ok := titles[p.Status]
	if !ok {
		title = "This did not work"
	}
	if err := s.Render(w, r, Page{Status: p.Status, Name: "error", Title: title, Alert: p.Text, Data: r.Method == http.MethodPost}); err != nil {
		s.log.Error("rendering an error page", "app", s.class, "err", err)
		http.Error(w, p.Text, p.Status)
	}
}
