//! Citations for programs: `BibTeX` and RIS, as the portal's landing pages have them.

/// What both forms are made of.
pub(super) struct StructuredCitation<'a> {
    /// As `Last, First`, or the name of an organisation.
    pub(super) authors: Vec<String>,
    /// The title, and the period of the data.
    pub(super) title: Option<(String, String)>,
    pub(super) year: Option<String>,
    /// The description of an elaborated product.
    pub(super) note: Option<&'a str>,
    pub(super) keywords: Vec<String>,
    /// The address of the DOI or of the handle.
    pub(super) url: String,
    pub(super) publisher: Option<&'a str>,
    /// The IRI of the licence.
    pub(super) licence: String,
    pub(super) doi: Option<&'a str>,
    pub(super) pid: String,
}

/// The end of a line in both forms.
const END: &str = "\r\n";

impl StructuredCitation<'_> {
    fn full_title(&self) -> Option<String> {
        let (title, period) = self.title.as_ref()?;
        Some(format!("{title}, {period}"))
    }

    /// An entry of type `misc`, whose key is the address.
    pub(super) fn bibtex(&self) -> String {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let keywords = Some(self.keywords.join(", "));
        let fields = [
            ("author", Some(self.authors.join(" and "))),
            ("title", self.full_title()),
            ("year", self.year.clone()),
            ("note", owned(self.note)),
            ("keywords", keywords.filter(|words| !words.is_empty())),
            ("url", Some(self.url.clone())),
            ("publisher", owned(self.publisher)),
            ("copyright", Some(self.licence.clone())),
            ("doi", owned(self.doi)),
            ("pid", Some(self.pid.clone())),
        ];
        let lines: Vec<String> = fields
            .into_iter()
            .filter_map(|(name, value)| Some(format!("  {name}={{{}}}", value?)))
            .collect();
        let body = lines.join(&format!(",{END}"));
        format!("@misc{{{},{END}{body}{END}}}", self.url)
    }

    /// A record of type `DATA`. The portal writes one space before the hyphen.
    pub(super) fn ris(&self) -> String {
        let mut tags = vec![("TY", Some("DATA".to_owned()))];
        tags.extend([
            ("T1", self.full_title()),
            ("ID", Some(self.pid.clone())),
            ("DO", self.doi.map(str::to_owned)),
            ("PY", self.year.clone()),
            ("AB", self.note.map(str::to_owned)),
            ("UR", Some(self.url.clone())),
            ("PB", self.publisher.map(str::to_owned)),
        ]);
        tags.extend(
            self.authors
                .iter()
                .map(|author| ("AU", Some(author.clone()))),
        );
        tags.extend(self.keywords.iter().map(|word| ("KW", Some(word.clone()))));
        tags.push(("ER", Some(String::new())));
        let lines: Vec<String> = tags
            .into_iter()
            .filter_map(|(tag, value)| Some(format!("{tag} - {}", value?)))
            .collect();
        lines.join(END)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_the_fields_of_the_portal_in_its_order() {
        let citation = StructuredCitation {
            authors: vec!["Lindqvist, Ada".to_owned(), "Virtanen, Bo".to_owned()],
            title: Some(("CO2 from Hyltemossa".to_owned(), "2023".to_owned())),
            year: Some("2024".to_owned()),
            note: None,
            keywords: vec!["CO2".to_owned(), "ICOS".to_owned()],
            url: "https://hdl.handle.net/11676/x".to_owned(),
            publisher: Some("Atmosphere Thematic Centre"),
            licence: "http://licence".to_owned(),
            doi: None,
            pid: "11676/x".to_owned(),
        };
        let bibtex = "@misc{https://hdl.handle.net/11676/x,\r\n\
              author={Lindqvist, Ada and Virtanen, Bo},\r\n\
              title={CO2 from Hyltemossa, 2023},\r\n\
              year={2024},\r\n\
              keywords={CO2, ICOS},\r\n\
              url={https://hdl.handle.net/11676/x},\r\n\
              publisher={Atmosphere Thematic Centre},\r\n\
              copyright={http://licence},\r\n\
              pid={11676/x}\r\n}";
        assert_eq!(citation.bibtex().replace("\r\n  ", "\r\n"), bibtex);
        let ris = "TY - DATA\r\nT1 - CO2 from Hyltemossa, 2023\r\nID - 11676/x\r\n\
            PY - 2024\r\nUR - https://hdl.handle.net/11676/x\r\n\
            PB - Atmosphere Thematic Centre\r\nAU - Lindqvist, Ada\r\n\
            AU - Virtanen, Bo\r\nKW - CO2\r\nKW - ICOS\r\nER - ";
        assert_eq!(citation.ris(), ris);
    }
}
