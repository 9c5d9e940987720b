//! The host's questions about the container as a whole, and their answers.

use protocol::{Answer, FromAgent, Question, RequestId};

use super::{ServeError, Server};
use crate::{etc::EtcMounts, kernel_log, network, questions, step::describe};

impl Server {
    pub(super) fn ask(&mut self, request: RequestId, question: Question) -> Result<(), ServeError> {
        match self.answer(request, question) {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => self.say(&FromAgent::Answer { request, answer }),
            Err(message) => self.fail(request, message),
        }
    }

    /// The answer, if it can be given at once.
    fn answer(&mut self, request: RequestId, question: Question) -> Result<Option<Answer>, String> {
        let (Ok(cgroup), Some(disks), Some(_)) = (&self.cgroup, &self.disks, self.container())
        else {
            return Err("the container is not running".into());
        };
        let answer = match question {
            Question::Pause => return self.freezer.freeze(cgroup, request),
            Question::Suspend => {
                if self.helpers.iter().any(|helper| helper.halts) {
                    return Err("the container stands still for a commit".into());
                }
                let answer = self.freezer.suspend(cgroup, request)?;
                self.processes.iter().for_each(|process| process.exchange.suspend());
                return Ok(answer);
            }
            Question::Resume => {
                let overtaken = self.freezer.resume(cgroup)?;
                self.processes.iter().for_each(|process| process.exchange.resume());
                self.fail_all(overtaken, "the container was resumed")?;
                Ok(Answer::Done)
            }
            Question::Unpause => {
                let overtaken = self.freezer.thaw(cgroup)?;
                self.fail_all(overtaken, "the container was unpaused")?;
                Ok(Answer::Done)
            }
            Question::Top => questions::top(disks.root()),
            Question::Stats => questions::stats(cgroup),
            Question::Update(limits) => cgroup.update(&limits).map(|()| Answer::Done),
            Question::KernelLog => kernel_log::read_all(),
            Question::Connect { device, interface } => {
                network::join(device, &interface).map(|()| Answer::Done)
            }
            Question::Disconnect { device } => network::leave(device).map(|()| Answer::Done),
            Question::Resolve { before, after } => {
                EtcMounts::resolve(&before, &after).map(|()| Answer::Done)
            }
        };
        answer.map(Some).map_err(|error| describe(&error))
    }

    pub(super) fn hear_freezer(&mut self) -> Result<(), ServeError> {
        for request in self.freezer.hear()? {
            self.say(&FromAgent::Answer { request, answer: Answer::Done })?;
        }
        Ok(())
    }

    fn fail_all(&mut self, requests: Vec<RequestId>, reason: &str) -> Result<(), String> {
        let mut requests = requests.into_iter();
        let failed = requests.try_for_each(|request| self.fail(request, reason.into()));
        failed.map_err(|error| describe(&error))
    }

    fn fail(&mut self, request: RequestId, message: String) -> Result<(), ServeError> {
        self.say(&FromAgent::Answer { request, answer: Answer::Failed { message } })
    }
}
