package synthetic

import "slices"

// Code is an entry of a code list: an ICD-10-like diagnosis or an ATC drug.
type Code struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Measure is something that can be observed, with a LOINC-like code. Low and
// High bound what the invented patients have, Min and Max what an app accepts.
type Measure struct {
	Code, Text, Unit    string
	Low, High, Min, Max float64
}

var clinicians = []string{
	"Dr. Ruth Vandermeer, general practice",
	"Dr. Tobias Akintola, general practice",
	"Dr. Sunniva Marsh, cardiology",
	"Dr. Pawel Okonedo, diabetology",
	"Dr. Lucia Hartwell, orthopaedics",
	"Dr. Idris Feld, dermatology",
}

var diagnoses = []Code{
	{"D50.9", "Iron deficiency anaemia"}, {"E03.9", "Hypothyroidism"}, {"E11.9", "Type 2 diabetes mellitus"},
	{"F41.1", "Generalized anxiety disorder"}, {"G43.9", "Migraine"}, {"I10", "Essential hypertension"},
	{"I48.9", "Atrial fibrillation"}, {"J06.9", "Acute upper respiratory infection"}, {"J45.9", "Asthma"},
	{"K21.9", "Gastro-oesophageal reflux disease"}, {"L20.9", "Atopic dermatitis"}, {"M17.1", "Osteoarthritis of the knee"},
	{"M54.5", "Low back pain"}, {"N39.0", "Urinary tract infection"}, {"S93.4", "Sprain of the ankle"},
	{"Z00.0", "General medical examination"},
}

var drugs = []Code{
	{"A02BC01", "Omeprazole 20 mg capsules"}, {"A10BA02", "Metformin 500 mg tablets"}, {"B01AF02", "Apixaban 5 mg tablets"},
	{"B03AA07", "Ferrous sulfate 200 mg tablets"}, {"C08CA01", "Amlodipine 5 mg tablets"}, {"C09AA02", "Enalapril 10 mg tablets"},
	{"C10AA05", "Atorvastatin 20 mg tablets"}, {"D07AC13", "Mometasone 0.1 % cream"}, {"H03AA01", "Levothyroxine 50 µg tablets"},
	{"J01CA04", "Amoxicillin 500 mg capsules"}, {"M01AE01", "Ibuprofen 400 mg tablets"}, {"N02BE01", "Paracetamol 500 mg tablets"},
	{"N06AB04", "Citalopram 20 mg tablets"}, {"R03AC02", "Salbutamol 100 µg inhaler"},
}

var measures = []Measure{
	{"8480-6", "Systolic blood pressure", "mmHg", 105, 158, 40, 300},
	{"8462-4", "Diastolic blood pressure", "mmHg", 62, 98, 20, 200},
	{"8867-4", "Heart rate", "/min", 54, 102, 20, 300},
	{"8310-5", "Body temperature", "°C", 36.2, 38.4, 25, 45},
	{"29463-7", "Body weight", "kg", 49, 108, 0.3, 500},
	{"59408-5", "Oxygen saturation", "%", 93, 100, 30, 100},
	{"4548-4", "Haemoglobin A1c", "%", 4.9, 8.6, 2, 20},
	{"2339-0", "Glucose", "mg/dL", 74, 190, 10, 1500},
	{"718-7", "Haemoglobin", "g/dL", 10.2, 16.8, 2, 25},
	{"2160-0", "Creatinine", "mg/dL", 0.6, 1.6, 0.1, 30},
	{"2093-3", "Cholesterol", "mg/dL", 140, 268, 20, 1000},
}

// Clinicians returns the names and departments of the doctors.
func Clinicians() []string { return slices.Clone(clinicians) }

// Diagnoses returns the ICD-10-like list, sorted by code.
func Diagnoses() []Code { return slices.Clone(diagnoses) }

// Drugs returns the ATC list, sorted by code.
func Drugs() []Code { return slices.Clone(drugs) }

// Measures returns the LOINC-like list.
func Measures() []Measure { return slices.Clone(measures) }

// FindCode returns the entry of list with this code, and whether there is one.
func FindCode(list []Code, code string) (Code, bool) {
	i := slices.IndexFunc(list, func(c Code) bool { return c.Code == code })
	if i < 0 {
		return Code{}, false
	}
	return list[i], true
}
