package fincare

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// View is an invoice with what follows from its payments and claims. Status is
// "open", "overdue", "part paid" or "paid".
type View struct {
	Invoice
	Total   int64  `json:"total_cents"`
	Open    int64  `json:"open_cents"`
	Claimed int64  `json:"claimed_cents"` // asked of the insurer and not paid yet
	Status  string `json:"status"`
}

func (r *records) view(id string, now time.Time) (View, bool) {
	i := slices.IndexFunc(r.Invoices, func(v Invoice) bool { return v.ID == id })
	if i < 0 {
		return View{}, false
	}
	v := View{Invoice: r.Invoices[i]}
	for _, item := range v.Items {
		v.Total += item.Cents
	}
	v.Open = v.Total
	for _, p := range r.Payments {
		if p.Invoice == id {
			v.Open -= p.Cents
		}
	}
	for _, c := range r.Claims {
		if c.Invoice == id && (c.Status == "submitted" || c.Status == "accepted") {
			v.Claimed += c.Cents
		}
	}
	switch {
	case v.Open <= 0:
		v.Status = "paid"
	case v.Due < now.UTC().Format(synthetic.Day):
		v.Status = "overdue"
	case v.Open < v.Total:
		v.Status = "part paid"
	default:
		v.Status = "open"
	}
	return v, true
}

// invoices returns all, or those of one status, the newest first.
func (a *app) invoices(status string) []View {
	list, r := []View{}, a.state.View()
	for _, v := range r.Invoices {
		if v, _ := r.view(v.ID, a.now()); status == "" || v.Status == status {
			list = append(list, v)
		}
	}
	slices.SortStableFunc(list, func(x, y View) int { return strings.Compare(y.Issued, x.Issued) })
	return list
}

func (a *app) payments(invoice string) []Payment {
	list := []Payment{}
	for _, p := range slices.Backward(a.state.View().Payments) {
		if invoice == "" || p.Invoice == invoice {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(x, y Payment) int { return y.At.Compare(x.At) })
	return list
}

func (a *app) claims(invoice string) []Claim {
	list := []Claim{}
	for _, c := range a.state.View().Claims {
		if invoice == "" || c.Invoice == invoice {
			list = append(list, c)
		}
	}
	slices.SortStableFunc(list, func(x, y Claim) int { return y.Changed.Compare(x.Changed) })
	return list
}

func (a *app) find(id string) (View, error) {
	v, ok := a.state.View().view(id, a.now())
	if !ok {
		return v, synthetic.Refuse(http.StatusNotFound, "There is no such invoice.")
	}
	return v, nil
}

// list is the home page: all invoices, or those of one status.
func (a *app) list(w http.ResponseWriter, r *http.Request) error {
	status := r.URL.Query().Get("status")
	return a.Render(w, r, synthetic.Page{Name: "invoices", Title: "Invoices", Data: map[string]any{
		"Invoices": a.invoices(status), "Status": status, "All": []string{"open", "overdue", "part paid", "paid"}, "Patients": synthetic.PatientsByName()}})
}

// routes registers the pages and what they send.
func (a *app) routes() {
	a.Handle("GET /{$}", a.list)
	a.Handle("GET /invoices", a.list)
	a.Handle("GET /invoices/{id}", func(w http.ResponseWriter, r *http.Request) error {
		v, err := a.find(r.PathValue("id"))
		if err != nil {
			return err
		}
		p, _ := synthetic.FindPatient(v.Patient)
		return a.Render(w, r, synthetic.Page{Name: "invoice", Title: "Invoice " + v.ID, Data: map[string]any{
			"Invoice": v, "Patient": p, "Payments": a.payments(v.ID), "Claims": a.claims(v.ID), "Methods": methods, "Free": v.Open - v.Claimed}})
	})
	a.Handle("GET /payments", func(w http.ResponseWriter, r *http.Request) error {
		return a.Render(w, r, synthetic.Page{Name: "payments", Title: "Payments", Data: a.payments("")})
	})
	a.Handle("GET /claims", func(w http.ResponseWriter, r *http.Request) error {
		return a.Render(w, r, synthetic.Page{Name: "claims", Title: "Insurance claims", Data: a.claims("")})
	})
	a.Form("/invoices", func(r *http.Request) (string, error) {
		cents, err := parseMoney(r.PostForm.Get("amount"))
		if err != nil {
			return "", err
		}
		n, err := a.issue(r.PostForm.Get("patient"), r.PostForm.Get("text"), cents)
		return "/invoices/" + n.ID + "?done=issued", err
	})
	a.Form("/invoices/{id}/payments", func(r *http.Request) (string, error) {
		cents, err := parseMoney(r.PostForm.Get("amount"))
		if err != nil {
			return "", err
		}
		n, err := a.pay(r.PathValue("id"), cents, r.PostForm.Get("method"))
		return "/invoices/" + n.Invoice + "?done=paid", err
	})
	a.Form("/invoices/{id}/claims", func(r *http.Request) (string, error) {
		cents, err := parseMoney(r.PostForm.Get("amount"))
		if err != nil {
			return "", err
		}
		n, err := a.claim(r.PathValue("id"), cents)
		return "/invoices/" + n.Invoice + "?done=claimed", err
	})
	a.Form("/claims/{id}/status", func(r *http.Request) (string, error) {
		n, err := a.move(r.PathValue("id"), r.PostForm.Get("status"))
		return "/invoices/" + n.Invoice + "?done=moved", err
	})
}

// api registers the JSON API.
func (a *app) api() {
	type charge struct {
		Patient string `json:"patient"`
		Text    string `json:"text"`
		Cents   int64  `json:"cents"`
	}
	type payment struct {
		Cents  int64  `json:"cents"`
		Method string `json:"method"`
	}
	type amount struct {
		Cents int64 `json:"cents"`
	}
	type step struct {
		Status string `json:"status"`
	}
	a.Read("/api/{$}", func(*http.Request) (any, error) {
		return synthetic.Index{App: "fincare",
			Reads: []string{"/api/invoices", "/api/invoices/{id}", "/api/payments", "/api/claims"},
			Writes: []synthetic.Write{
				{Path: "/api/invoices", Example: charge{"p1001", "Consultation", 9500}},
				{Path: "/api/invoices/{id}/payments", Example: payment{1000, methods[0]}},
				{Path: "/api/invoices/{id}/claims", Example: amount{1000}},
				{Path: "/api/claims/{id}/status", Example: step{"accepted"}},
			}}, nil
	})
	a.Read("/api/invoices", func(r *http.Request) (any, error) { return a.invoices(r.URL.Query().Get("status")), nil })
	a.Read("/api/invoices/{id}", func(r *http.Request) (any, error) { return a.find(r.PathValue("id")) })
	a.Read("/api/payments", func(*http.Request) (any, error) { return a.payments(""), nil })
	a.Read("/api/claims", func(*http.Request) (any, error) { return a.claims(""), nil })
	synthetic.Create(a.Site, "/api/invoices", synthetic.FormLimit, func(_ *http.Request, in charge) (string, any, error) {
		n, err := a.issue(in.Patient, in.Text, in.Cents)
		return "/api/invoices/" + n.ID, n, err
	})
	synthetic.Create(a.Site, "/api/invoices/{id}/payments", synthetic.FormLimit, func(r *http.Request, in payment) (string, any, error) {
		n, err := a.pay(r.PathValue("id"), in.Cents, in.Method)
		return "/api/invoices/" + n.Invoice, n, err
	})
	synthetic.Create(a.Site, "/api/invoices/{id}/claims", synthetic.FormLimit, func(r *http.Request, in amount) (string, any, error) {
		n, err := a.claim(r.PathValue("id"), in.Cents)
		return "/api/invoices/" + n.Invoice, n, err
	})
	synthetic.Create(a.Site, "/api/claims/{id}/status", synthetic.FormLimit, func(r *http.Request, in step) (string, any, error) {
		n, err := a.move(r.PathValue("id"), in.Status)
		return "", n, err
	})
}

var moneyForm = regexp.MustCompile(`^([0-9]{1,7})(?:\.([0-9]{1,2}))?$`)

// parseMoney reads an amount like 12, 12.5 or 12.50 exactly, without floating
// point.
func parseMoney(s string) (int64, error) {
	m := moneyForm.FindStringSubmatch(strings.TrimSpace(s))
	if m == nil {
		return 0, badAmount()
	}
	cents, err := strconv.ParseInt(m[1]+(m[2] + "00")[:2], 10, 64)
	if err != nil {
		return 0, badAmount()
	}
	return cents, nil
}
