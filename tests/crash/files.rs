//! The files that are uploaded, and the workflows that they are for.

/// The built-in workflow with patience, and one whose invite must not be sent again.
pub const WORKFLOWS: &str = r#"
[workflows.invite]
max_attempts = 100

[workflows.once]
upload_path = "/v2/client/invite-once"
max_attempts = 100
# Dozens of deaths leave more unknown outcomes in a batch than a month of them elsewhere: it must not pause itself.
pause_failure_share = 2

[[workflows.once.columns]]
name = "email"
type = "email"
required = true
unique = true

[[workflows.once.columns]]
name = "address_id"

[[workflows.once.steps]]
name = "invite-create"
dependency = "invites"
method = "POST"
path = "/invites"
json = { email = "{{ row.email }}", address_id = "{{ row.address_id }}" }
save = { check_id = "/check_id" }
result = "check_id"
repeat = "never"
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workflow {
    /// Built in: every step can be repeated.
    Invite,
    /// Its one step cannot.
    Once,
}

impl Workflow {
    pub fn upload_path(self) -> &'static str {
        match self {
            Self::Invite => "/v2/client/users/batch/invite",
            Self::Once => "/v2/client/invite-once",
        }
    }
}

/// A file whose rows are nobody else's.
#[derive(Debug, Clone, Copy)]
pub struct CsvFile {
    pub number: u32,
    pub workflow: Workflow,
    pub rows: u32,
}

impl CsvFile {
    pub fn body(&self) -> String {
        let (header, rest) = match self.workflow {
            Workflow::Invite => {
                ("email,first_name,last_name,phone,postcode,house_number", "Ann,Smith,07700 900123,AB1 2CD,7")
            }
            Workflow::Once => ("email,address_id", "adr_7"),
        };
        let rows = (1..=self.rows).map(|row| format!("{},{rest}\n", self.email(row)));
        format!("{header}\n{}", rows.collect::<String>())
    }

    /// Who is invited in this row.
    pub fn email(&self, row: u32) -> String {
        format!("r{row}.f{}@mail.example", self.number)
    }
}
