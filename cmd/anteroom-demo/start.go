package main

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"

	"github.com/anteroom-proxy/anteroom/upstreams/idp"
)

//go:embed start
var startFiles embed.FS

var startPage = template.Must(template.ParseFS(startFiles, "start/start.html"))

// startHandler serves the start page: which apps, which people, how to trust the CA.
func (d *demo) startHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		var page bytes.Buffer
		if err := startPage.Execute(&page, d.startData()); err != nil {
			http.Error(w, "the start page could not be made", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = page.WriteTo(w)
	})
	mux.HandleFunc("GET /start.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, startFiles, "start/start.css")
	})
	mux.HandleFunc("GET /ca.crt", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		w.Header().Set("Content-Disposition", `attachment; filename="anteroom-demo-ca.crt"`)
		http.ServeFile(w, r, d.caFile())
	})
	return mux
}

type startApp struct{ Title, About, Address string }

type startPerson struct {
	Name string
	May  []bool // in the order of the apps
}

func (d *demo) startData() any {
	var as []startApp
	for _, a := range apps {
		as = append(as, startApp{a.title, a.about, d.address(a.name + ".localhost")})
	}
	var ps []startPerson
	for _, p := range idp.DemoUsers() {
		sp := startPerson{Name: p.Username}
		for _, a := range apps {
			sp.May = append(sp.May, slices.ContainsFunc(p.Roles, func(r string) bool { return slices.Contains(a.roles, r) }))
		}
		ps = append(ps, sp)
	}
	return struct {
		Apps                       []startApp
		People                     []startPerson
		CAFile, Dir, Start, Issuer string
		HMACPort                   string
		Emergency                  string // the address of a record that breaking the glass opens
	}{as, ps, d.caFile(), d.dir, d.address("localhost"), d.issuer, fmt.Sprint(d.hmacPort), d.address("medrecords.localhost") + "/patients/p1001"}
}
