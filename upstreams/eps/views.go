package eps

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// home lists the prescriptions and takes new ones.
func (a *app) home(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	return a.Render(w, r, synthetic.Page{Name: "list", Title: "Prescriptions", Data: map[string]any{
		"List": a.list(q.Get("patient"), q.Get("status")), "Status": q.Get("status"), "Patient": q.Get("patient"), "All": []string{issued, dispensed, cancelled},
		"Patients": synthetic.PatientsByName(), "Clinicians": synthetic.Clinicians(), "Drugs": synthetic.Drugs()}})
}

// routes registers the pages and what they send.
func (a *app) routes() {
	a.Handle("GET /{$}", a.home)
	a.Handle("GET /prescriptions", a.home)
	a.Handle("GET /prescriptions/{id}", func(w http.ResponseWriter, r *http.Request) error {
		n, err := a.find(r.PathValue("id"))
		if err != nil {
			return err
		}
		p, _ := synthetic.FindPatient(n.Patient)
		return a.Render(w, r, synthetic.Page{Name: "prescription", Title: "Prescription " + n.ID, Data: map[string]any{"It": n, "Patient": p}})
	})
	a.Form("/prescriptions", func(r *http.Request) (string, error) {
		f := r.PostForm
		packs, err := strconv.Atoi(strings.TrimSpace(f.Get("packs")))
		if err != nil {
			packs = 0 // issue says what is expected
		}
		n, err := a.issue(order{f.Get("patient"), f.Get("prescriber"), f.Get("drug"), f.Get("dose"), packs})
		return "/prescriptions/" + n.ID + "?done=" + issued, err
	})
	a.Form("/prescriptions/{id}/dispense", func(r *http.Request) (string, error) {
		n, err := a.dispense(r.PathValue("id"))
		return "/prescriptions/" + n.ID + "?done=" + dispensed, err
	})
	a.Form("/prescriptions/{id}/cancel", func(r *http.Request) (string, error) {
		n, err := a.cancel(r.PathValue("id"), r.PostForm.Get("reason"))
		return "/prescriptions/" + n.ID + "?done=" + cancelled, err
	})
}

// api registers the JSON API.
func (a *app) api() {
	type why struct {
		Reason string `json:"reason"`
	}
	a.Read("/api/{$}", func(*http.Request) (any, error) {
		return synthetic.Index{App: "eps",
			Reads: []string{"/api/prescriptions", "/api/prescriptions/{id}", "/api/drugs"},
			Writes: []synthetic.Write{
				{Path: "/api/prescriptions", Example: order{"p1001", synthetic.Clinicians()[0], "N02BE01", "1 when in pain, at most 4 a day", 1}},
				{Path: "/api/prescriptions/{id}/dispense", Example: struct{}{}},
				{Path: "/api/prescriptions/{id}/cancel", Example: why{"Dose changed"}},
			}}, nil
	})
	a.Read("/api/drugs", func(*http.Request) (any, error) { return synthetic.Drugs(), nil })
	a.Read("/api/prescriptions", func(r *http.Request) (any, error) {
		return a.list(r.URL.Query().Get("patient"), r.URL.Query().Get("status")), nil
	})
	a.Read("/api/prescriptions/{id}", func(r *http.Request) (any, error) { return a.find(r.PathValue("id")) })
	synthetic.Create(a.Site, "/api/prescriptions", synthetic.FormLimit, func(_ *http.Request, in order) (string, any, error) {
		n, err := a.issue(in)
		return "/api/prescriptions/" + n.ID, n, err
	})
	synthetic.Create(a.Site, "/api/prescriptions/{id}/dispense", synthetic.FormLimit, func(r *http.Request, _ struct{}) (string, any, error) {
		n, err := a.dispense(r.PathValue("id"))
		return "", n, err
	})
	synthetic.Create(a.Site, "/api/prescriptions/{id}/cancel", synthetic.FormLimit, func(r *http.Request, in why) (string, any, error) {
		n, err := a.cancel(r.PathValue("id"), in.Reason)
		return "", n, err
	})
}
